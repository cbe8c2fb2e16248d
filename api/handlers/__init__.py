"""One module per group of routes.

In: a request. Out: a response, or a problem document. Begin with `orders.py`.
"""
