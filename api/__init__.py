"""The HTTP API, the feeds and the board.

In: requests. Out: durable responses, updates as Server-Sent Events. Begin with `routes/`.
"""
