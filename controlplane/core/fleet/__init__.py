"""Decides where attempts go: what agents grant, what is charged, which place fits best."""
