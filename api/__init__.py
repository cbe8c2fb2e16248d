"""The HTTP API, the feeds and the board.

In: requests. Out: answers that are durable, updates as Server-Sent Events. Begin with `routes.py`.
"""
