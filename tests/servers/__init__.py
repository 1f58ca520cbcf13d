"""Servers that tests run against, each started, stopped and hurt through one object."""
