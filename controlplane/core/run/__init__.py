"""Decides how a run advances: its ready set, its end, and its state seen from the store."""
