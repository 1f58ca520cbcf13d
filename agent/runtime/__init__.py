"""How the agent runs tasks: as processes of the machine."""
