"""The frames of the transports: the same for all clients of one, and deflated where updates are written together."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from stocktide.api.feeds.channel import Cursor, View
from stocktide.api.feeds.frames import (
    CONTROL_BYTES_MAX,
    DEFLATED_WEBSOCKET,
    WEBSOCKET,
    DeflatedText,
    FrameFormat,
    ServerSentEvents,
    WebSocketText,
    close_reason,
    may_deflate,
)
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.subscriber import FeedSubscription
from stocktide.streams.contract.documents import ChannelUpdate, encode
from tests.harness.eventually import eventually
from tests.unit.fakes import FakeRecord


def add_updates(hub: Hub, *skus: str, version: int = 1, quantity: int = 5) -> None:
    """One more update of each SKU, read together."""
    at = hub.position[0]
    updates = [
        ChannelUpdate("tmall", sku, quantity, "in_stock", 0, version, "2026-11-29T09:30:00.123Z") for sku in skus
    ]
    hub.add(0, [FakeRecord(at + n, encode(each), f"tmall/{each.sku}".encode()) for n, each in enumerate(updates)])


def messages_of(received: bytes, inflate: zlib._Decompress) -> Iterator[tuple[bool, bytes]]:
    """Each message of a socket, and whether it was deflated. `inflate` has the client's window."""
    while received:
        opcode, length, begin = received[0], received[1], 2
        if length == 126:
            length, begin = int.from_bytes(received[2:4], "big"), 4
        payload, received = received[begin : begin + length], received[begin + length :]
        assert opcode in (0x81, 0xC1)
        deflated = opcode == 0xC1
        yield deflated, inflate.decompress(payload + b"\x00\x00\xff\xff") if deflated else payload


def read_log(hub: Hub, frames: FrameFormat, cursor: Cursor) -> tuple[bytes, Cursor]:
    return hub.channel("tmall").after(cursor, hub.position, 64 * 1024, View(frames, "3f0a61c2b97e."))


def test_what_is_deflated_reads_as_what_is_not_whenever_a_client_came() -> None:
    hub, windows = Hub(1), [zlib.decompressobj(-12)]
    cursors = [(Cursor(0, (0,)), Cursor(0, (0,)))]
    kinds: Counter[bool] = Counter()
    for turn in range(30):
        add_updates(hub, *(f"S{number}" for number in range(1 + turn % 7 * 40)), version=turn + 1, quantity=turn)
        if turn == 10:  # a client that comes later, with a window of its own
            windows.append(zlib.decompressobj(-12))
            cursors.append((Cursor(0, (0,)), Cursor(0, (0,))))
        for client, window in enumerate(windows):
            plain_at, deflated_at = cursors[client]
            plain, plain_at = read_log(hub, WEBSOCKET, plain_at)
            deflated, deflated_at = read_log(hub, DEFLATED_WEBSOCKET, deflated_at)
            cursors[client] = (plain_at, deflated_at)
            found = list(messages_of(deflated, window))
            assert plain_at == deflated_at
            assert [text for _, text in found] == [text for _, text in messages_of(plain, window)]
            kinds.update(is_deflated for is_deflated, _ in found)
            assert len(deflated) < 0.4 * len(plain) or len(found) < 20
    assert kinds[True] and kinds[False], "one update alone is sent as it is"


def test_events_that_are_no_updates_are_sent_as_they_are() -> None:
    text = b'{"event":"synced","id":"7-0","data":{}}'
    for frames in (WEBSOCKET, DEFLATED_WEBSOCKET):
        assert frames.event("synced", b"{}", "7-0") == b"\x81%c%b" % (len(text), text)


@pytest.mark.parametrize(
    ("offered", "allowed"),
    [
        ("", False),
        ("permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", True),
        ("permessage-deflate;client_no_context_takeover ; server_max_window_bits=15, permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits=99, permessage-deflate; server_no_context_takeover", False),
        ("permessage-deflate, x-other", False),
        ("permessage-deflate; server_max_window_bits=11", False),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", False),
        ("permessage-deflate; server_no_context_takeover", False),
        ("permessage-deflate; unheard_of=1", False),
        ("x-webkit-deflate-frame", False),
        ("permessage-deflated", False),
    ],
)
def test_an_offer_is_taken_only_if_the_window_may_last(offered: str, allowed: bool) -> None:
    assert may_deflate(offered) is allowed


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_lengths_are_written_as_rfc_6455_says(size: int) -> None:
    overhead = len(b'{"event":"","data":}')
    if size < overhead:
        assert WEBSOCKET.pong(b"") == b"\x8a\x00"
        return
    frame = WEBSOCKET.event("", b"1" * (size - overhead))
    code, head = (size, 2) if size < 126 else (126, 4) if size < 65_536 else (127, 10)
    assert frame[1] == code and len(frame) == size + head
    assert code == size or int.from_bytes(frame[2:head], "big") == size


def test_a_reason_is_cut_at_a_whole_character() -> None:
    reason = close_reason("ä" * 100)
    assert len(reason) <= CONTROL_BYTES_MAX - 2
    assert reason.decode() == "ä" * 61


class Counting(FrameFormat):
    """Counts how often each row was encoded, and the joins."""

    def __init__(self) -> None:
        self.encoded: Counter[bytes] = Counter()
        self.joined = 0

    def stock(self, head: bytes, row: bytes, frame_id: str | None) -> bytes:
        self.encoded[row] += 1
        return super().stock(head, row, frame_id)

    def join(self, updates: Sequence[bytes]) -> bytes:
        self.joined += 1
        return super().join(updates)


class CountingEvents(Counting, ServerSentEvents): ...


class CountingText(Counting, WebSocketText): ...


class CountingDeflated(Counting, DeflatedText): ...


async def test_each_update_is_encoded_once_for_all_clients_of_a_transport() -> None:
    hub = Hub(1)
    counters = (CountingEvents(), CountingText(), CountingDeflated())
    received: Counter[int] = Counter()

    async def snapshot_is_whole() -> None:
        pass

    async def write(client: int, chunk: bytes) -> None:
        received[client] += chunk.count(b'"sku":') or len(chunk)
        await asyncio.sleep(0)

    clients = [
        FeedSubscription(hub, hub.channel("tmall"), None, snapshot_is_whole, frames=counters[number % 3])
        for number in range(300)
    ]
    tasks = [asyncio.create_task(client.run(partial(write, number))) for number, client in enumerate(clients)]
    await eventually(lambda: len(received) == 300)
    received.clear()
    skus = [f"S{number}" for number in range(20)]
    add_updates(hub, *skus)
    await eventually(lambda: len(received) == 300)
    assert {received[client] for client in range(300) if client % 3 != 2} == {20}
    for counter in counters:
        assert counter.joined == 1
        # The last of what is written together once more, with the id of everything that was read.
        assert sorted(counter.encoded.values()) == [1] * 19 + [2]
    hub.close()
    await asyncio.gather(*tasks, return_exceptions=True)
