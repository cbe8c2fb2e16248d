"""The embedded servers: the real Kafka and the real Valkey as our children, on loopback, files in a folder.

They are the extra `embedded`; production installs without it and points at its own servers.
"""

from stocktide.embedded.kafka import EmbeddedKafka
from stocktide.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedKafka", "EmbeddedValkey"]
