"""The embedded servers are real ones, and keep their data and addresses over stops and crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupCoordinatorNotAvailableError

from stocktide.doctor.command import Severity, examine
from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import TopicsError, admin_client, ensure_topics, inspect_topics
from stocktide.streams.topics import TOPICS
from tests.harness.eventually import eventually
from tests.harness.process import started
from tests.harness.servers import KafkaServer, RedisServer


def spoil_class_archive(cache: Path) -> None:
    """Overwrite a part of the archive that the first stop has made."""
    (archive,) = cache.glob("classes-*.jsa")
    archive.chmod(0o600)
    with archive.open("r+b") as file:
        file.seek(archive.stat().st_size // 4)
        file.write(bytes(archive.stat().st_size // 2))


@pytest.mark.soak
async def test_kafka_keeps_its_records_and_its_address_over_a_stop_and_a_damaged_class_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # tests/integration/test_up.py has the same with SIGKILL.
    monkeypatch.setattr("stocktide.embedded.class_archive.cache_folder", lambda: tmp_path)
    server = EmbeddedKafka(tmp_path / "kafka", tmp_path / "kafka.log")
    await server.start()
    address = server.address
    await ensure_topics(address, "keep", partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        await producer.send_and_wait("keep-journal", b"first")
    await server.stop()
    spoil_class_archive(tmp_path)
    async with started(server):
        assert server.address == address
        async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
            await producer.send_and_wait("keep-journal", b"second")
        assert await _values(address, "keep-journal", 2) == [b"first", b"second"]


async def test_valkey_keeps_its_keys_and_its_address_over_a_crash(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey", tmp_path / "valkey.log")
    await server.start()
    # Customers' orders are in it.
    assert (tmp_path / "valkey").stat().st_mode & 0o077 == 0
    url = server.url
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.set(b"stock", b"47")
    server.kill()
    await server.wait()
    await server.start()
    try:
        assert server.url == url
        async with redis.asyncio.Redis.from_url(url) as client:
            assert await client.get(b"stock") == b"47"
            settings = await client.config_get("maxmemory-policy", "appendonly", "appendfsync")
        assert settings == {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}
    finally:
        await server.stop()


async def test_topics_are_created_once_with_safe_settings(kafka: KafkaServer, valkey: RedisServer, app_id: str) -> None:
    first = await ensure_topics(kafka.address, app_id, partitions=3)
    second = await ensure_topics(kafka.address, app_id, partitions=3)
    assert [row.topic for row in first] == list(TOPICS)
    assert all(row.created for row in first)
    assert not any(row.created for row in second)
    assert {row.topic.name: row.partitions for row in second} == {topic.name: topic.partitions or 3 for topic in TOPICS}
    settings = Settings(kafka=kafka.address, redis=valkey.url, app_id=app_id, partitions=3)
    async with admin_client(kafka.address) as admin:

        async def has_coordinator() -> bool:
            try:  # the first request creates Kafka's own topic for groups
                return await admin.list_consumer_group_offsets(app_id) == {}
            except GroupCoordinatorNotAvailableError:
                return False

        await eventually(has_coordinator)
    findings = await examine(settings)
    assert [finding.what for finding in findings if finding.severity is Severity.WRONG] == []
    assert f"all {len(TOPICS)} topics are there" in [finding.what for finding in findings]


async def test_another_number_of_partitions_is_refused(kafka: KafkaServer, app_id: str) -> None:
    await ensure_topics(kafka.address, app_id, partitions=2)
    with pytest.raises(TopicsError, match=f"{app_id}-orders has 2 partitions and the settings say 3"):
        await ensure_topics(kafka.address, app_id, partitions=3)


async def test_topics_that_are_missing_are_listed_as_missing(kafka: KafkaServer, app_id: str) -> None:
    brokers, rows = await inspect_topics(kafka.address, app_id)
    assert brokers == 1
    assert not any(row.exists for row in rows)


async def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path, valkey: RedisServer) -> None:
    taken = int(valkey.url.split(":")[-1].split("/")[0])
    (tmp_path / "ports.json").write_text(f'{{"server": {taken}}}')
    async with started(EmbeddedValkey(tmp_path, tmp_path / "valkey.log")) as server:
        assert str(taken) not in server.url


async def _values(address: str, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    async with consumer:
        return [(await consumer.getone()).value for _ in range(count)]
