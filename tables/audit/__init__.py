"""Journal, derived topics and Redis compared: digests, differences, and the corrections for them.

In: the three sides. Out: findings, and a plan of corrections. Begin with `auditor.py`.
"""
