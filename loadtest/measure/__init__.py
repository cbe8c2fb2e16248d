"""Latencies and counts by the second, and the use of CPU and memory.

In: single measurements of several processes. Out: one set of results. Begin with `meter.py`.
"""
