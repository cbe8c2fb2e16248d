"""`stocktide explain`: why a number is what it is.

In: a SKU, and a time or a version. Out: its changes with their causes. Begin with `command.py`.
"""
