"""Providers that are Python classes of the user's, each in a process of its own."""
