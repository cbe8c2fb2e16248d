"""The doctor reports what is unsafe, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stocktide.doctor.command import judge_alerts, judge_encryption, judge_intake, shown_settings
from stocktide.doctor.finding import Finding, Severity
from stocktide.doctor.kafka_judgement import OFFSETS_TOPIC, ClusterView, GroupOffset, PartitionView, judge_cluster
from stocktide.doctor.redis_server import COMMANDS, judge_permissions, judge_redis, missing_permissions
from stocktide.errors import ServerUnreachable
from stocktide.security import redact_url
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import topic_settings
from stocktide.streams.topics import CHANNEL_STOCK, JOURNAL, ORDERS, STOCK, TOPICS
from stocktide.wait_for_servers import wait_for_redis
from tests.harness.servers import RedisServer

LUA = Path(__file__).parents[2] / "tables" / "ledger" / "lua"
SAFE_ABOUT = {
    "redis_version": "7.2.4",
    "role": "master",
    "maxmemory": 1 << 30,
    "used_memory": 1 << 20,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
}
SAFE_CONFIG = {"appendfsync": "everysec", "save": "", "stop-writes-on-bgsave-error": "yes"}


def wrongs(findings: Iterable[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.severity is Severity.WRONG]


def notes(findings: Iterable[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.severity is Severity.NOTE]


def redis_with(about: dict[str, object], config: dict[str, str] | None = None) -> list[Finding]:
    """The findings on a server that is safe except for these values."""
    return list(judge_redis({**SAFE_ABOUT, **about}, {**SAFE_CONFIG, **(config or {})}))


def cluster(brokers: int, replicas: int, partitions: int = 4) -> ClusterView:
    """A cluster with all topics as Stocktide creates them."""
    return ClusterView(
        brokers,
        {
            topic.full_name("s"): (PartitionView(replicas, replicas, True),) * (topic.partitions or partitions)
            for topic in TOPICS
        },
        {topic.full_name("s"): topic_settings(topic, brokers) for topic in TOPICS},
        {number: {"min.insync.replicas": "2", "auto.create.topics.enable": "false"} for number in range(brokers)},
        tuple(range(brokers)),
    )


def changed(view: ClusterView, topic: str, **settings: str) -> ClusterView:
    """The cluster with other settings of one topic; `_` stands for a dot."""
    other = {name.replace("_", "."): value for name, value in settings.items()}
    return replace(view, settings={**view.settings, topic: {**view.settings[topic], **other}})


def of(view: ClusterView) -> list[Finding]:
    """The findings on a cluster, in an installation of 4 partitions."""
    return list(judge_cluster(view, "s", 4))


@pytest.mark.parametrize(("brokers", "replicas"), [(1, 1), (3, 3)])
def test_topics_as_stocktide_creates_them_are_safe(brokers: int, replicas: int) -> None:
    assert wrongs(of(cluster(brokers, replicas))) == []
    assert len(notes(of(cluster(brokers, replicas)))) == (1 if brokers == 1 else 0)


def test_missing_topics_are_wrong_and_named() -> None:
    (message,) = wrongs(of(ClusterView(1, {})))
    assert "s-journal" in message


def test_another_number_of_partitions_is_wrong() -> None:
    assert any(
        "s-orders has 5 partitions and the settings say 4" in what for what in wrongs(of(cluster(1, 1, partitions=5)))
    )


def test_one_replica_on_three_brokers_is_wrong_for_every_topic() -> None:
    view = cluster(3, 1)
    # With one replica, two can never be in sync.
    messages = wrongs(of(view))
    assert sum("the loss of one broker loses" in what for what in messages) == len(TOPICS)
    assert sum("nothing can be written" in what for what in messages) == len(TOPICS)


def test_a_partition_without_a_leader_or_with_lagging_replicas_is_wrong() -> None:
    view = cluster(3, 3)
    parts = (PartitionView(3, 2, True), PartitionView(3, 0, False), *view.topics["s-orders"][2:])
    messages = wrongs(of(replace(view, topics={**view.topics, "s-orders": parts})))
    assert len(messages) == 2
    assert "partition 0, 2 are in sync" in messages[0]
    assert "partition 1 has no leader" in messages[1]


@pytest.mark.parametrize(
    ("topic", "settings", "reason"),
    [
        ("s-orders", {"min_insync_replicas": "1"}, "left alone goes on answering"),
        ("s-orders", {"min_insync_replicas": "4"}, "nothing can be written"),
        ("s-stock", {"unclean_leader_election_enable": "true"}, "what it lacks is lost"),
        ("s-journal", {"cleanup_policy": "compact"}, "drops records that are needed"),
        ("s-stock", {"cleanup_policy": "delete"}, "cleanup.policy=delete, not compact"),
        ("s-orders", {"retention_ms": "3600000"}, "before they were of no more use"),
        ("s-journal", {"retention_bytes": "1073741824"}, "whether it was read or not"),
        ("s-journal", {"max_message_bytes": "1048588"}, "a large order is refused"),
    ],
)
def test_each_unsafe_setting_of_a_topic_is_wrong(topic: str, settings: dict[str, str], reason: str) -> None:
    (message,) = wrongs(of(changed(cluster(3, 3), topic, **settings)))
    assert topic in message
    assert reason in message


def test_what_is_kept_longer_than_needed_is_fine() -> None:
    assert of(changed(cluster(3, 3), "s-orders", retention_ms="-1")) == of(cluster(3, 3))
    assert of(changed(cluster(3, 3), "s-adjustments", cleanup_policy="delete,compact")) == of(cluster(3, 3))


def test_a_lone_broker_that_does_not_flush_the_journal_is_wrong() -> None:
    (message,) = wrongs(of(changed(cluster(1, 1), "s-journal", flush_messages="9223372036854775807")))
    assert "a power cut loses answers" in message


def test_changelogs_of_faust_are_checked_too() -> None:
    view = cluster(3, 3)
    topics = {**view.topics, "s-t-changelog": (PartitionView(1, 1, True),), "s-b-orders": (PartitionView(1, 1, True),)}
    settings = {**view.settings, "s-t-changelog": {"min.insync.replicas": "1"}}
    (message,) = wrongs(of(replace(view, topics=topics, settings=settings)))
    assert "s-t-changelog has 1 replica(s)" in message


def test_where_kafka_keeps_how_far_was_read_has_to_be_replicated_too() -> None:
    view = cluster(3, 3)
    topics = {**view.topics, OFFSETS_TOPIC: (PartitionView(1, 1, True),)}
    assert "stops the workers" in wrongs(of(replace(view, topics=topics)))[0]


def test_unsafe_defaults_of_a_broker_are_noted() -> None:
    view = cluster(3, 3)
    unsafe = {"auto.create.topics.enable": "true", "min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    reported = notes(of(replace(view, broker_settings={**view.broker_settings, 2: unsafe})))
    assert len(reported) == 3
    assert all(what.startswith("broker 2 has") for what in reported)


def test_unreadable_settings_are_reported_and_not_guessed() -> None:
    reported = of(replace(cluster(3, 3), settings={}, broker_settings={}, group_offsets=None))
    assert wrongs(reported) == []
    assert sum("allow DescribeConfigs on it" in what for what in notes(reported)) == len(TOPICS)
    assert sum("allow DescribeConfigs on the cluster" in what for what in notes(reported)) == 1
    assert sum("allow Read on the groups s and s:publish" in what for what in notes(reported)) == 1


def test_records_deleted_unread_and_a_topic_made_anew_are_wrong() -> None:
    group_offsets = (
        GroupOffset("s-orders", 0, committed=10, first=10, end=10),
        GroupOffset("s-orders", 1, committed=4, first=10, end=20),
        GroupOffset("s-orders", 2, committed=30, first=0, end=20),
    )
    messages = wrongs(of(replace(cluster(3, 3), group_offsets=group_offsets)))
    assert len(messages) == 2
    assert "partition 1: 6 record(s) were deleted" in messages[0]
    assert "partition 2 ends at 20" in messages[1]


def test_a_safe_server_has_nothing_wrong_and_nothing_to_note() -> None:
    assert [finding.severity for finding in redis_with({})] == [Severity.GOOD]


@pytest.mark.parametrize(
    ("about", "config", "reason"),
    [
        ({"redis_version": "6.2.1"}, {}, "too old"),
        ({"role": "slave"}, {}, "only a primary"),
        ({"cluster_enabled": 1}, {}, "cluster mode"),
        ({"loading": 1}, {}, "still loading"),
        ({"maxmemory_policy": "allkeys-lru"}, {}, "stock that is lost"),
        ({"evicted_keys": 3}, {}, "3 key(s) were evicted"),
        ({"used_memory": 1 << 30}, {}, "every order is refused"),
        ({"aof_enabled": 0}, {}, "restart forgets"),
        ({}, {"appendfsync": "no"}, "power cut"),
        ({"aof_last_write_status": "err"}, {}, "refuses every write"),
        ({"aof_last_bgrewrite_status": "err"}, {}, "grows until the disk is full"),
        ({"rdb_last_bgsave_status": "err"}, {"save": "60 1"}, "refuses every write"),
        ({}, {"min-replicas-to-write": "1"}, "0 follow closely"),
    ],
)
def test_each_unsafe_state_of_redis_is_wrong(about: dict[str, object], config: dict[str, str], reason: str) -> None:
    (message,) = wrongs(redis_with(about, config))
    assert reason in message


OPTIONS = {"WITHSCORES", "COUNT", "LIMIT", "MATCH", "MINID", "PXAT"}
REPLICA = {"ip": "10.0.0.2", "port": 6379, "state": "online", "lag": 0}


@pytest.mark.parametrize(
    ("about", "config", "reason"),
    [
        ({"maxmemory": 0}, {}, "maxmemory is not set"),
        ({"total_system_memory": 1 << 29}, {}, "the machine has 512 MiB"),
        ({}, {"appendfsync": "always"}, "every call waits for the disk"),
        ({}, {"save": "3600 1"}, "a snapshot that fails stops all orders"),
        ({"slave0": {**REPLICA, "lag": 60}}, {"min-replicas-to-write": "1"}, "60 s behind"),
        ({"slave0": {**REPLICA, "state": "wait_bgsave"}}, {"min-replicas-to-write": "1"}, "cannot take over yet"),
        ({"slave0": REPLICA}, {}, "goes on deciding"),
        ({"db3": {"keys": 7, "expires": 0}}, {}, "database 3 holds 7 key(s)"),
    ],
)
def test_notes_on_redis_are_reported(about: dict[str, object], config: dict[str, str], reason: str) -> None:
    reported = redis_with(about, config)
    assert wrongs(reported) == []
    assert len(notes(reported)) == 1
    assert reason in notes(reported)[0]


def test_a_server_with_an_unreadable_config_is_judged_by_the_rest() -> None:
    reported = list(judge_redis({**SAFE_ABOUT, "maxmemory_policy": "volatile-lru"}, None))
    assert len(wrongs(reported)) == 1
    assert len(notes(reported)) == 1
    assert "allow config|get" in notes(reported)[0]


def test_the_rights_of_every_command_of_the_scripts_are_checked() -> None:
    source = "\n".join(file.read_text() for file in sorted(LUA.rglob("*.lua")))
    # Commands of Redis are in capitals, and so are their options.
    given = set(re.findall(r"['\"]([A-Z]{3,})['\"]", source)) - OPTIONS
    assert len(given) > 15
    assert given <= {command[0] for command in COMMANDS}


async def test_rights_that_are_missing_are_named(ledger_server: RedisServer, redis: Any) -> None:
    client = type(redis).from_url(ledger_server.url)
    try:
        assert await missing_permissions(client, "s:{0}:") == []
        await client.acl_setuser(
            "half", enabled=True, nopass=True, keys=["s:*"], categories=["+@all"], commands=["-xadd", "-publish"]
        )
        half = type(redis).from_url(ledger_server.url, username="half", password="")
        assert set(await missing_permissions(half, "s:{0}:")) == {"PUBLISH", "SUBSCRIBE", "XADD"}
        others = await missing_permissions(half, "other:{0}:")
        assert {"GET", "MSET"} <= set(others)
        await half.aclose()
    finally:
        await client.acl_deluser("half")
        await client.aclose()
    assert "may not use XADD on keys and channels shop:*" in wrongs(judge_permissions(["XADD"], "shop:"))[0]


def test_the_journal_is_flushed_on_one_broker_and_replicated_on_three() -> None:
    assert topic_settings(JOURNAL, 1)["flush.messages"] == "1"
    assert "flush.messages" not in topic_settings(ORDERS, 1)
    assert "segment.bytes" not in topic_settings(ORDERS, 1)
    assert "segment.bytes" in topic_settings(CHANNEL_STOCK, 1)
    assert "segment.bytes" in topic_settings(STOCK, 3)
    many = topic_settings(JOURNAL, 3)
    assert many["min.insync.replicas"] == "2"
    assert many["unclean.leader.election.enable"] == "false"


def test_secrets_are_hidden() -> None:
    lines = list(shown_settings(Settings(redis="rediss://user:secret@host:6380/1")))
    assert "STOCKTIDE_REDIS=rediss://user:***@host:6380/1" in lines
    assert redact_url("redis://host:1/0") == "redis://host:1/0"
    assert "secret" not in redact_url("redis://:secret@host:port/0")
    for rest in ("u:secret/x@host:1", "u:x#secret@host", "u:secret?@host", "host:1/0?db=0&password=secret"):
        assert "secret" not in redact_url(f"redis://{rest}") and "host" in redact_url(f"redis://{rest}")
    assert "STOCKTIDE_KAFKA_SASL_PASSWORD=***" in shown_settings(Settings(kafka_sasl_password="a://secret"))


@pytest.mark.parametrize("rest", ["u:secret/x@host", "u:secret#x@host", ":secret?x@host"])
async def test_an_address_that_is_none_is_refused_without_its_password(rest: str) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        await wait_for_redis(f"redis://{rest}", 0.1)
    assert "secret" not in str(caught.value) and "%2F" in str(caught.value)


def test_a_password_that_is_sent_in_the_clear_is_reported() -> None:
    assert list(judge_encryption(Settings())) == []
    sasl = {"kafka_security": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "PLAIN"}
    reported = notes(judge_encryption(Settings(redis="redis://:secret@10.0.0.1/0", **sasl)))
    assert len(reported) == 2
    assert "the password too" in reported[0]
    assert not any("secret" in what for what in reported)


def test_a_wrong_file_of_alerts_is_wrong_and_a_right_one_is_named(tmp_path: Path) -> None:
    assert list(judge_alerts(Settings())) == []
    file = tmp_path / "alerts.yaml"
    file.write_text("receivers: [{name: duty, kind: slack, url: 'https://hooks.slack.com/HUSH'}]\nroutes: []\n")
    (found,) = judge_alerts(Settings(alerts_file=str(file)))
    assert found.severity is Severity.GOOD and "1 receivers" in found.what and "HUSH" not in found.what
    file.write_text("receivers: []")
    (found,) = judge_alerts(Settings(alerts_file=str(file)))
    assert found.severity is Severity.WRONG and "`routes`" in found.what


def test_a_folder_of_mappings_that_is_not_there_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKTIDE_MAPPINGS", str(tmp_path / "none"))
    (found,) = judge_intake()
    assert found.severity is Severity.WRONG and str(tmp_path / "none") in found.what
    monkeypatch.setenv("STOCKTIDE_MAPPINGS", str(tmp_path))
    monkeypatch.setenv("STOCKTIDE_INTAKE_SHOPIFY_SECRET", "HUSH")
    (found,) = judge_intake()
    assert (found.severity, found.what) == (Severity.GOOD, "the intake takes shopify")
