"""The embedded servers: Apache Kafka and Valkey as child processes on loopback (the extra `embedded`).

In: a folder and a log. Out: an address. Begin with `server.py`.
"""

from stocktide.embedded.kafka import EmbeddedKafka
from stocktide.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedKafka", "EmbeddedValkey"]
