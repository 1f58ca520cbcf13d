"""Decisions of the control plane as pure functions and values: no clock, randomness or I/O."""
