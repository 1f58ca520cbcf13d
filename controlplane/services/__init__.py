"""Decides what the calls of the public contract do, without knowing how they arrive."""
