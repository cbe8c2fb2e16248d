"""`make bench-size`: a shop of a million SKUs on real servers, and the duration of failures and operations on it.

In: the number of SKUs and open orders. Out: a table and JSON of the figures, with the goals of the design. Begin with
`steps.py`.
"""
