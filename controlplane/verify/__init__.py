"""Judges what a database says against what must always hold: `mainspring verify`."""
