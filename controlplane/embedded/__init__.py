"""The embedded cluster: PostgreSQL, etcd and our own processes, on one machine, from one folder."""
