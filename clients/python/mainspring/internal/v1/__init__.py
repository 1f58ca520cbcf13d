"""Messages and stubs of the contracts in `mainspring.internal.v1`; written by `make proto`."""
