"""The oracle: one checker for each promise of the design.

In: a history of requests, responses, updates and public rows. Out: a verdict with evidence. Begin with `judge.py`.
"""
