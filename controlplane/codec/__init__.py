"""Decides how values of the core and messages of the contracts stand for each other."""
