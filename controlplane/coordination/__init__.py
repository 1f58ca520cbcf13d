"""Who may try to lead which shard: etcd client, node lease, election and membership.

Nothing here decides who leads: that is the compare-and-set of the epoch in the store. A fault of
etcd costs failover and nothing else.
"""
