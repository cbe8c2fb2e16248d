"""The journal on a real Kafka: the promises of the one in memory, and relay, takeover and callers over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import NewTopic

from stocktide.agents.relay import Relay
from stocktide.streams.journal.log import KafkaLog, OutOfRange
from stocktide.streams.journal.record import JournalReader, RecordVerdict, decode_record
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.topics import JOURNAL, JOURNAL_RECORD_BYTES_MAX
from tests.harness.servers import KafkaServer
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
async def topic(kafka: KafkaServer, app_id: str) -> str:
    """A journal of one partition."""
    name = JOURNAL.full_name(app_id)
    settings = {"max.message.bytes": str(JOURNAL_RECORD_BYTES_MAX)}
    async with admin_client(kafka.address) as admin:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=settings)])
    return name


@pytest.fixture
async def log(kafka: KafkaServer, topic: str) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(kafka.address, topic)
    yield log
    await log.close()


async def read_all(log: KafkaLog, count: int) -> list[tuple[int, bytes | None]]:
    found: list[tuple[int, bytes | None]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            offset = found[-1][0] + 1 if found else 0
            found += [(record.offset, record.value) for record in await log.read(offset, 1)]
    return found


async def test_appends_under_way_at_once_keep_their_order(log: KafkaLog) -> None:
    under_way = [await log.append([b"%d-%d" % (call, each) for each in range(3)]) for call in range(20)]
    offsets = await asyncio.gather(*under_way)
    assert list(offsets) == [3 * call + 2 for call in range(20)]
    values = [value for _, value in await read_all(log, 60)]
    assert values == [b"%d-%d" % (call, each) for call in range(20) for each in range(3)]
    assert await log.bounds() == (0, 60)


async def test_a_read_starts_at_any_offset_and_an_empty_one_gives_nothing(log: KafkaLog) -> None:
    await (await log.append([b"a", b"b", b"c"]))
    assert [record.value for record in await log.read(1, 5)] == [b"b", b"c"]
    assert [record.value for record in await log.read(0, 5)] == [b"a", b"b", b"c"]
    assert list(await log.read(3, 0.05)) == []
    with pytest.raises(OutOfRange):
        async with asyncio.timeout(10):
            while True:
                await log.read(99, 1)


async def test_a_record_of_the_largest_batch_passes(log: KafkaLog) -> None:
    large = bytes(JOURNAL_RECORD_BYTES_MAX - 1024)
    assert await (await log.append([b"small", large, b"small"])) == 2
    assert [len(value or b"") for _, value in await read_all(log, 3)] == [5, len(large), 5]


async def test_a_reader_wakes_as_soon_as_something_comes(log: KafkaLog) -> None:
    await (await log.append([b"first"]))
    await log.read(0, 5)
    loop = asyncio.get_running_loop()
    seconds = []
    for offset in range(1, 6):
        waiting = asyncio.create_task(log.read(offset, 5))
        await asyncio.sleep(0.1)
        began = loop.time()
        await (await log.append([b"another"]))
        assert [record.value for record in await waiting] == [b"another"]
        seconds.append(loop.time() - began)
    assert min(seconds) < 0.3, seconds  # what is left of the broker's fetch wait would be 0.4 s


async def test_callers_are_answered_through_kafka_and_a_second_owner_goes_on(
    kafka: KafkaServer, topic: str, log: KafkaLog, rig: ProtocolRig
) -> None:
    first = Relay(log, rig.control, "first", source=rig.rows)
    first.start()
    submitter = rig.submitter()
    await submitter.submit([receive("m-1", units=1000)], deadline_in(30))
    await asyncio.gather(*(submitter.submit([place(f"o-{n}")], deadline_in(30)) for n in range(100)))
    await first.stop()
    # An attempt that was slow was repeated, in a batch of its own: how many batches there are depends on the machine.
    unsent = await rig.ledger.apply([place("unsent")], token="unsent")
    assert unsent.batch >= 102
    second_log = KafkaLog(kafka.address, topic)
    second = Relay(second_log, rig.control, "second", source=rig.rows)
    second.start()
    try:
        await wait_until(lambda: second.position.batch == unsent.batch, 30)
    finally:
        await second.stop()
        await second_log.close()
    reader = JournalReader()
    read = await read_all(log, (await log.bounds())[1])
    verdicts = [reader.feed(offset, decode_record(value)) for offset, value in read]
    assert verdicts.count(RecordVerdict.BATCH) == unsent.batch
    assert reader.position.owner == "second"
