"""`stocktide demo`: a small shop that trades on a whole system.

In: nothing. Out: a shop to look at. Begin with `command.py`.
"""
