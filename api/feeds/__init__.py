"""Sends the newest update of every channel and SKU to the subscribers.

In: the topic `channel-stock`. Out: Server-Sent Events, resumable by `Last-Event-ID`. Begin with `hub.py`.
"""
