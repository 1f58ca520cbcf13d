"""Messages and stubs of the contracts in `mainspring.agent.v1`; written by `make proto`."""
