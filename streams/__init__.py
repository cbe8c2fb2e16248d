"""The event contract, the topics, and the transport between processes.

In: bytes from Kafka. Out: typed events, published rows, and the journal. Begin with `topics.py`.
"""
