"""Decides everything that happens in a shard: events in, writes and messages out."""
