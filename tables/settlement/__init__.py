"""Settled decisions, and stalls: work that waits without progress.

In: tokens that the relay settled. Out: callers that resume, stalls that are reported. Begin with `listener.py`.
"""
