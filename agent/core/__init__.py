"""The pure part of the agent: sessions, attempts, grants. No I/O, no clock, no randomness."""
