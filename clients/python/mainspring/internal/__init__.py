"""Messages and stubs of the contracts in `mainspring.internal`; written by `make proto`."""
