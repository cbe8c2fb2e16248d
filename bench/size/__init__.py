"""`make bench-size`: a shop of a million SKUs on real servers, and how long what happens to it takes.

In: how many SKUs and open orders. Out: a table and JSON of what was measured, with the goals of the design beside it.
"""
