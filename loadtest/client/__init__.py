"""The contract as a library: requests, events, feeds and topics.

In: the address of a system. Out: typed answers, updates and rows. Begin with `http.py`.
"""
