"""Real orders from a file, and a proof of every number afterwards.

In: a CSV of orders. Out: a report, and each difference. Begin with `replay.py`.
"""
