"""Access to the API: keys, roles, tickets, origins, rates and bounds of connections.

In: requests and a file of keys. Out: a `Caller` (`caller.py`) or a problem document. Begin with `guard.py`.
"""
