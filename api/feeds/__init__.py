"""The newest update of every channel and SKU, sent to each subscriber.

In: the topic `channel-stock`. Out: Server-Sent Events, resumable by `Last-Event-ID`. Begin with `hub.py`.
"""
