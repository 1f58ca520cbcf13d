"""Measurements of Mainspring that anyone can rerun; `make bench` runs them all."""
