"""The replay of real orders from a file, and a check of every number afterwards.

In: a CSV of orders. Out: a report with every difference. Begin with `replay.py`.
"""
