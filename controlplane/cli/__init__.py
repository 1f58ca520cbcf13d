"""The server's entry points: `python -P -m controlplane.cli up` and `… node`."""
