"""The documents that describe the API to machines: OpenAPI 3.1 and AsyncAPI 3.0.

In: the table of routes, the table of topics, the types of messages. Out: JSON. Begin with `served.py`.
"""
