"""What remembers: PostgreSQL behind typed calls; the only SQL of the project, by name, in `sql/`.

Leaders write through `Store.shards`, and only behind the fence (`transaction`).
"""
