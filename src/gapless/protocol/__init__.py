"""The wire contract as pure functions: messages, line splitting, the query language, times.

Apart from the servers and clients that use it, so that both sides of a connection share one
definition and neither needs a socket to be tested.
"""
