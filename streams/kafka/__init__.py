"""Clients of Kafka: admin, publisher, topic reader, and the Faust transport that delivers chunks.

In: addresses and rows. Out: topics, acknowledged rows, batches and chunks of records. Begin with `transport.py`.
"""
