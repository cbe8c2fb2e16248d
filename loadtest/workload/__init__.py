"""The orders of a load test: generated ones, or those of a real file, with their arrival times.

In: a seed, a shape, a file. Out: scenarios, arrival times, invoices. Begin with `scenarios.py`.
"""
