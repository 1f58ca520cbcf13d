"""The shell of shards: what turns the decisions of the core into rows and messages.

A node leads some shards. Each has one loop (`loop`), which takes what has arrived, lets the core
decide, commits, and only then speaks. Nothing here decides what a run or a task does.
"""
