"""Clients of a hub: what a stranger's program could be, knowing nothing but the protocol."""
