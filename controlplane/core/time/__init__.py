"""Time as the core sees it: integers handed in, never a clock read.

Wall instants are microseconds since the epoch, UTC; deadlines are milliseconds on the
monotonic clock of the process that asks.
"""
