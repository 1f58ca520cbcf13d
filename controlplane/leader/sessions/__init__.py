"""The sessions of agents with one node: every shard that is led here speaks through them."""
