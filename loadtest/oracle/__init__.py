"""The verdict: one checker for each promise of the design.

In: a history of answers, updates and public rows. Out: a verdict with evidence. Begin with `judge.py`.
"""
