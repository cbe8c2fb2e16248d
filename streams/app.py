"""The Faust app: assignment, tables, recovery and acks; nothing else of Faust is used.

In: the settings. Out: an app that is not started. Topics are created by `streams.kafka.admin`, never by Faust or the
broker; Faust's web, table web and windows are off. Call inside a running loop: Faust pins the loop it first sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust

from stocktide.streams.kafka import transport
from stocktide.streams.kafka.membership import Membership
from stocktide.streams.topics import Topic

# Time without a heartbeat after which the group gives a worker's partitions away: how long the work of one that died
# and does not come back rests. Not less, because a loaded machine may starve a thread for seconds.
SESSION_SECONDS = 10.0
HEARTBEAT_SECONDS = 1.0
# What is committed late is done again after a crash.
COMMIT_SECONDS = 0.5
# Chunks that wait for an agent before its partitions are left out of the fetches.
CHUNKS_WAITING_MAX = 16
# Bytes fetched of one partition at a time; a larger single record still comes whole.
FETCH_BYTES_MAX = 1024 * 1024


class App(faust.App):
    """A Faust app that knows whether it is still a member of its group."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.membership = Membership(SESSION_SECONDS)
        super().__init__(*args, **kwargs)


def make_app(
    *,
    app_id: str,
    kafka: str,
    folder: Path,
    partitions: int,
    replication: int,
    worker_name: str = "worker",
    standby_replicas: int = 0,
    security: Mapping[str, Any] | None = None,
) -> App:
    """An app for the brokers `kafka` (HOST:PORT[,HOST:PORT]) that keeps its tables below `folder`.

    `security` is what lets a client of aiokafka in, in its own words; nothing where Kafka is open.

    `replication` is that of topics that Faust might create: none, as long as `streams.kafka.admin` ran first. Raises
    OSError where the folder cannot be made.
    """
    transport.register()
    folder.mkdir(parents=True, exist_ok=True)
    brokers = [f"{transport.SCHEME}://{server.strip()}" for server in kafka.split(",")]
    return App(
        app_id,
        broker=brokers,
        broker_credentials=_credentials(security or {}),
        store="rocksdb://",
        datadir=str(folder),
        # Names a member in the assignor's metadata; nothing is served there.
        canonical_url=f"http://{worker_name}",
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=partitions,
        topic_replication_factor=replication,
        table_standby_replicas=standby_replicas,
        stream_wait_empty=False,
        stream_buffer_maxsize=CHUNKS_WAITING_MAX,
        stream_recovery_delay=0.0,
        broker_commit_interval=COMMIT_SECONDS,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_rebalance_timeout=SESSION_SECONDS,
        # A static member: a worker that was killed and started again has its partitions back at once, not when its
        # session has run out. So names must differ; one that is told to stop leaves the group
        # (streams.kafka.transport).
        consumer_group_instance_id=worker_name,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        # Warned of at this age, never acted upon: a worker may rightly wait long for Redis to be blessed.
        stream_processing_timeout=300.0,
    )


def _credentials(security: Mapping[str, Any]) -> Any:
    """The same in Faust's words."""
    protocol = security.get("security_protocol", "PLAINTEXT")
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return faust.SSLCredentials(security["ssl_context"])
    return faust.SASLCredentials(
        mechanism=security["sasl_mechanism"],
        username=security["sasl_plain_username"],
        password=security["sasl_plain_password"],
        ssl_context=security.get("ssl_context"),
    )


def chunk_topic(app: App, topic: Topic) -> Any:
    """The Faust topic that yields chunks of `topic`."""
    return app.topic(topic.full_name(app.conf.id), schema=transport.ChunkSchema())
