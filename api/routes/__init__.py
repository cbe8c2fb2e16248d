"""The table of all calls, from which the router and the OpenAPI document are made.

In: the handlers. Out: routes with method, path, handler, and the types of bodies. Begin with `table.py`.
"""
