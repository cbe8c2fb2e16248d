"""`make bench-compare`: Stocktide and the usual ways to reserve stock, on the same machine, servers and orders.

In: seeded orders, clients that retry until they get a response, kills of processes and servers. Out: a table and JSON:
the speed of each way, and the promises that did not survive the kills. Begin with `rounds.py`.
"""
