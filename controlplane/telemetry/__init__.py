"""Decides how a process reads time and chance, counts, measures and logs."""
