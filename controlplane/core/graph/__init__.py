"""Decides what a well-formed DAG is: ids, edges, cycles, limits."""
