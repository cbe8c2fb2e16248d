"""`make bench-compare`: Stocktide beside the usual ways to reserve stock, on the same machine, servers and orders.

In: seeded orders, callers who ask again until they are answered, kills of processes and of servers. Out: a table and
JSON: how fast each way answers, and what it had promised that was gone afterwards.
"""
