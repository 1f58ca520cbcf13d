"""Messages and stubs of the contracts in `mainspring.etcd`; written by `make proto`."""
