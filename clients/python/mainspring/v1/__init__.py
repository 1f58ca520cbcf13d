"""Messages and stubs of the contracts in `mainspring.v1`; written by `make proto`."""
