"""Streams to nodes: the only place of the agent that knows gRPC and the bytes of the wire."""
