"""The doctor says what is unsafe, and why."""

from __future__ import annotations

from stocktide.doctor import Verdict, judge_redis, judge_topics, shown_settings
from stocktide.reach import hidden_url
from stocktide.settings import Settings
from streams.admin import TopicRow, settings_of
from streams.topics import CHANNEL_STOCK, JOURNAL, ORDERS, TOPICS

SAFE_ABOUT = {"redis_version": "7.2.4", "role": "master", "maxmemory": 1 << 30}
SAFE_CONFIG = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


def wrong_of_redis(about: dict[str, object], config: dict[str, str]) -> list[str]:
    """What is wrong with a server that is safe but for these."""
    findings = judge_redis({**SAFE_ABOUT, **about}, {**SAFE_CONFIG, **config})
    return [finding.what for finding in findings if finding.verdict is Verdict.WRONG]


def rows(partitions: int, replicas: int) -> list[TopicRow]:
    """Every topic with so many partitions and replicas."""
    return [
        TopicRow(topic, topic.full_name("s"), partitions and (topic.partitions or partitions), replicas)
        for topic in TOPICS
    ]


def wrong_of_topics(found: list[TopicRow], brokers: int) -> list[str]:
    """What is wrong with topics on so many brokers, in an installation of 4 partitions."""
    return [finding.what for finding in judge_topics(found, brokers, 4) if finding.verdict is Verdict.WRONG]


def test_a_safe_server_has_nothing_wrong() -> None:
    assert wrong_of_redis({}, {}) == []


def test_each_unsafe_setting_of_redis_is_wrong_with_a_reason() -> None:
    assert "evicted" in wrong_of_redis({}, {"maxmemory-policy": "allkeys-lru"})[0]
    assert "restart forgets" in wrong_of_redis({}, {"appendonly": "no"})[0]
    assert "power cut" in wrong_of_redis({}, {"appendfsync": "no"})[0]
    assert "too old" in wrong_of_redis({"redis_version": "6.2.1"}, {})[0]
    assert "only a primary" in wrong_of_redis({"role": "slave"}, {})[0]


def test_missing_topics_are_wrong_and_named() -> None:
    message = wrong_of_topics(rows(0, 0), 1)
    assert len(message) == 1
    assert "s-journal" in message[0]


def test_another_number_of_partitions_is_wrong() -> None:
    assert any("s-orders has 5 partitions, not 4" in what for what in wrong_of_topics(rows(5, 1), 1))


def test_one_replica_is_enough_on_one_broker_and_wrong_on_three() -> None:
    assert wrong_of_topics(rows(4, 1), 1) == []
    assert len(wrong_of_topics(rows(4, 1), 3)) == len(TOPICS)
    assert wrong_of_topics(rows(4, 3), 3) == []


def test_the_journal_is_flushed_on_one_broker_and_replicated_on_three() -> None:
    assert settings_of(JOURNAL, 1)["flush.messages"] == "1"
    assert "flush.messages" not in settings_of(ORDERS, 1)
    assert "segment.bytes" not in settings_of(ORDERS, 1)
    assert "segment.bytes" in settings_of(CHANNEL_STOCK, 1)
    many = settings_of(JOURNAL, 3)
    assert many["min.insync.replicas"] == "2"
    assert many["unclean.leader.election.enable"] == "false"


def test_secrets_are_hidden() -> None:
    lines = list(shown_settings(Settings(redis="rediss://user:secret@host:6380/1")))
    assert "STOCKTIDE_REDIS=rediss://user:***@host:6380/1" in lines
    assert hidden_url("redis://host:1/0") == "redis://host:1/0"
    assert "secret" not in hidden_url("redis://:secret@host:port/0")
