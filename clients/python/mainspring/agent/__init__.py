"""Messages and stubs of the contracts in `mainspring.agent`; written by `make proto`."""
