"""Which decisions are settled, and which work waits while nothing moves.

In: tokens that the relay settled. Out: callers that are resumed, stalls that are reported. Begin with `listener.py`.
"""
