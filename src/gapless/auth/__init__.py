"""Who asks, and what they may: users, passwords, tokens, and one decision for every door.

Stands beside the hub, and neither knows the other: the hub answers whoever it is told to.
"""
