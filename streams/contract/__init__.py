"""The input events of the contract and their times.

In: raw bytes. Out: a typed event, or `Malformed` with a code and a path. Begin with `events.py`.
"""
