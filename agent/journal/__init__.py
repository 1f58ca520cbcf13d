"""The journal: what an agent has to know after its own death."""
