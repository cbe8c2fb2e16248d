"""The Faust app. It uses Faust only for assignment, tables, recovery and acks.

In: the settings. Out: an app that is not started. `streams.kafka.admin` creates the topics, never Faust or the broker;
Faust's web server and windows are off. Call inside a running loop: Faust binds to the loop that it sees first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faust

from stocktide.streams.kafka import transport
from stocktide.streams.kafka.membership import Membership
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY
from stocktide.streams.topics import Topic

# Time without a heartbeat after which the group reassigns a worker's partitions. Not less, because a loaded machine may
# starve a thread for seconds.
SESSION_SECONDS = 10.0
HEARTBEAT_SECONDS = 1.0
# Input that is not committed yet is processed again after a crash.
COMMIT_SECONDS = 0.5
# Chunks queued for an agent before its partitions are paused.
CHUNKS_WAITING_MAX = 16
# Bytes per partition and fetch; a single larger record is still fetched whole.
FETCH_BYTES_MAX = 1024 * 1024


class App(faust.App):
    """A Faust app with the membership of its consumer group.

    `on_restored` is called after each rebalance when the tables are restored, before the first chunk is delivered.
    Faust's signal `on_rebalance_complete` is no substitute: a recovery that was overtaken by a rebalance sends it too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.membership = Membership(SESSION_SECONDS)
        self.on_restored: Callable[[], None] = lambda: None
        super().__init__(*args, **kwargs)

    def on_rebalance_end(self) -> None:
        """End a rebalance. Faust calls it only in the generation that it restored the tables for."""
        super().on_rebalance_end()
        self.on_restored()


def make_app(
    *,
    group: str,
    member: str,
    kafka: str,
    folder: Path,
    partitions: int,
    replication: int,
    standby_replicas: int = 0,
    security: Mapping[str, Any] | None = None,
) -> App:
    """An app for the brokers `kafka` (HOST:PORT[,HOST:PORT]) that keeps its tables below `folder`.

    `group` is the consumer group, `member` the name of this worker in it, which no other worker of the group has.
    `security` holds aiokafka's security options; empty for an open Kafka. `replication` applies to topics that Faust
    creates: none, if `streams.kafka.admin` ran first. Raises OSError if the folder cannot be created.
    """
    transport.register()
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
    brokers = [f"{transport.SCHEME}://{server.strip()}" for server in kafka.split(",")]
    return App(
        group,
        broker=brokers,
        broker_credentials=_credentials(security or {}),
        store="rocksdb://",
        datadir=str(folder),
        # The member's name in the assignor's metadata; nothing listens there.
        canonical_url=f"http://{member}",
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
        # Static membership: a worker that restarts after a kill gets its partitions back at once instead of after the
        # session timeout. So names must differ; a worker that stops leaves the group (streams.kafka.transport).
        consumer_group_instance_id=member,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        # Faust only warns at this age: a worker may rightly wait long until Redis is blessed.
        stream_processing_timeout=300.0,
    )


def _credentials(security: Mapping[str, Any]) -> Any:
    """aiokafka's security options as Faust's credentials."""
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


def chunk_topic(app: App, app_id: str, topic: Topic) -> Any:
    """The Faust topic that yields chunks of `topic`."""
    return app.topic(topic.full_name(app_id), schema=transport.ChunkSchema())
