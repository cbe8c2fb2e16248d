"""The audit: compares journal, derived topics and Redis, and plans corrections.

In: the three sides. Out: findings with digests and differences; corrections. Begin with `auditor.py`.
"""
