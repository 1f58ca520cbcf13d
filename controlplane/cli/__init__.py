"""The server's entry points: `python -P -m controlplane.cli up`, `… node` and so on."""
