"""Clients of Kafka: admin, publisher, and the Faust transport that delivers chunks.

In: addresses and rows. Out: topics that exist, rows that were acknowledged, chunks of records. Begin with
`transport.py`.
"""
