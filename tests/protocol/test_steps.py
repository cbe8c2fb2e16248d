"""The Lua steps of relay and takeover, each by itself, on a real server."""

from __future__ import annotations

import re

import pytest

from stocktide.streams.journal.record import Position
from stocktide.tables.ledger.client import Unblessed
from stocktide.tables.ledger.control import Refusal, ServerState, SettledUpTo, StepRefused
from stocktide.tables.ledger.scripts import load_source
from tests.protocol.rig import ProtocolRig, receive


async def bless(stage: ProtocolRig, term: int = 1) -> ServerState:
    seen = await stage.handover.unbless(term)
    assert isinstance(seen, ServerState)
    assert await stage.handover.bless(term, seen, 0, "") is None
    return seen


async def decide(stage: ProtocolRig, *tokens: str) -> None:
    for token in tokens:
        await stage.ledger.apply([receive(f"r-{token}")], token=token)


def at(offset: int, batch: int, token: str, term: int = 1) -> Position:
    return Position(offset, term, "a", batch, token)


def test_every_refusal_of_the_steps_is_known_in_python() -> None:
    steps = ("outbox", "settle", "unbless", "bless", "replay", "flush", "load")
    words = {word for step in steps for word in re.findall(r"return \{ '(\w+)'", load_source(step))}
    words |= set(re.findall(r"return '(\w+)'", load_source("bless")))
    assert words - {"ok", "settled", "blessed", "replayed", "flushed", "loaded"} == {str(each) for each in Refusal}


async def test_apply_is_refused_while_unblessed(stage: ProtocolRig) -> None:
    with pytest.raises(Unblessed):
        await decide(stage, "t1")
    seen = await bless(stage)
    await decide(stage, "t1")
    await stage.handover.unbless(2)
    with pytest.raises(Unblessed):
        await decide(stage, "t2")
    assert (await stage.handover.unbless(3)).batch == 1
    assert seen.batch == 0


async def test_the_outbox_is_read_in_order_and_within_its_bounds(stage: ProtocolRig) -> None:
    await bless(stage)
    await decide(stage, *(f"t{n}" for n in range(1, 41)))
    entries = await stage.handover.outbox(1, 3, 30, 1 << 20)
    assert not isinstance(entries, StepRefused)
    assert [entry.batch for entry in entries] == list(range(3, 33))
    assert all(entry.previous == f"t{entry.batch - 1}" for entry in entries)
    one = await stage.handover.outbox(1, 3, 30, 1)
    assert not isinstance(one, StepRefused)
    assert [entry.token for entry in one] == ["t3"]
    assert await stage.handover.outbox(1, 41, 30, 1 << 20) == ()


async def test_relay_steps_of_another_term_are_refused(stage: ProtocolRig) -> None:
    await bless(stage, term=2)
    assert await stage.handover.outbox(1, 1, 10, 1000) == StepRefused(Refusal.HIGHER_TERM)
    assert await stage.handover.settle(1, [at(1, 0, "")]) == StepRefused(Refusal.HIGHER_TERM)
    assert await stage.handover.outbox(3, 1, 10, 1000) == StepRefused(Refusal.UNBLESSED)


async def test_a_blessing_of_another_server_is_none(stage: ProtocolRig) -> None:
    await bless(stage)
    await stage.redis.hset(stage.prefix + "blessed", "run_id", "another")
    assert await stage.handover.outbox(1, 1, 10, 1000) == StepRefused(Refusal.UNBLESSED)
    with pytest.raises(Unblessed):
        await decide(stage, "t1")


async def test_settle_drops_notes_and_publishes(stage: ProtocolRig) -> None:
    await bless(stage)
    await decide(stage, "t1", "t2", "t3")
    async with stage.redis.pubsub() as listener:
        await listener.subscribe(stage.prefix + "settled")
        assert await stage.handover.settle(1, [at(2, 1, "t1"), at(3, 2, "t2")]) == SettledUpTo(2)
        assert (await listener.get_message(timeout=2))["type"] == "subscribe"  # type: ignore[index]
        assert await listener.get_message(timeout=2) is not None
    assert await stage.handover.settled() == at(3, 2, "t2")
    assert await stage.outbox_size() == 1


async def test_settle_never_goes_back(stage: ProtocolRig) -> None:
    await bless(stage)
    await decide(stage, "t1", "t2", "t3")
    await stage.handover.settle(1, [at(2, 1, "t1"), at(3, 2, "t2"), at(4, 3, "t3")])
    assert await stage.handover.settle(1, [at(2, 1, "t1")]) == SettledUpTo(3)
    assert await stage.handover.settle(1, [at(1, 0, "")]) == SettledUpTo(3)
    assert await stage.handover.settled() == at(4, 3, "t3")


async def test_a_marker_moves_the_noted_position_and_no_batch(stage: ProtocolRig) -> None:
    await bless(stage)
    await decide(stage, "t1")
    await stage.handover.settle(1, [at(2, 1, "t1"), at(9, 1, "t1", term=4)])
    assert await stage.handover.settled() == at(9, 1, "t1", term=4)


@pytest.mark.parametrize(
    "positions",
    [
        [at(2, 1, "other")],  # another token than the outbox holds
        [at(2, 1, "t1"), at(3, 2, "other")],
        [at(3, 2, "t2")],  # a batch before it was not compared
        [at(2, 1, "t1"), at(4, 3, "t3")],
        [at(5, 4, "t4")],  # Redis never decided it
        [at(2, 1, "t1"), at(3, 2, "t2"), at(4, 3, "t3"), at(5, 4, "t4")],
    ],
)
async def test_settling_what_the_outbox_does_not_hold_is_a_fork_and_changes_nothing(
    stage: ProtocolRig, positions: list[Position]
) -> None:
    await bless(stage)
    await decide(stage, "t1", "t2", "t3")
    answer = await stage.handover.settle(1, positions)
    assert isinstance(answer, StepRefused)
    assert answer.reason is Refusal.FORK
    assert await stage.handover.settled() is None
    assert await stage.outbox_size() == 3


async def test_settling_the_settled_batch_under_another_token_is_a_fork(stage: ProtocolRig) -> None:
    await bless(stage)
    await decide(stage, "t1")
    await stage.handover.settle(1, [at(2, 1, "t1")])
    assert await stage.handover.settle(1, [at(3, 1, "other")]) == StepRefused(Refusal.FORK, batch=1)


async def test_a_recovery_gives_way_to_a_higher_term(stage: ProtocolRig) -> None:
    older = await stage.handover.unbless(4)
    assert isinstance(older, ServerState)
    await stage.handover.unbless(5)
    assert await stage.handover.unbless(4) == StepRefused(Refusal.HIGHER_TERM, term=5)
    assert await stage.handover.bless(4, older, 0, "") == StepRefused(Refusal.HIGHER_TERM)


async def test_a_bless_needs_the_server_that_the_recovery_began_with(stage: ProtocolRig) -> None:
    seen = await stage.handover.unbless(1)
    assert isinstance(seen, ServerState)
    other = ServerState("another", seen.replid, 0, "", None)
    assert await stage.handover.bless(1, other, 0, "") == StepRefused(Refusal.MOVED)


async def test_a_bless_after_a_flush_is_refused(stage: ProtocolRig) -> None:
    seen = await stage.handover.unbless(1)
    assert isinstance(seen, ServerState)
    await stage.redis.delete(stage.prefix + "blessed")
    assert await stage.handover.bless(1, seen, 0, "") == StepRefused(Refusal.SUPERSEDED)


async def test_a_second_bless_of_one_term_is_refused(stage: ProtocolRig) -> None:
    seen = await bless(stage)
    assert await stage.handover.bless(1, seen, 0, "") == StepRefused(Refusal.SUPERSEDED)


@pytest.mark.parametrize(
    ("batch", "token", "answer"),
    [
        (0, "", None),
        (2, "t2", None),
        (3, "t3", None),
        (1, "other", StepRefused(Refusal.BROKEN, batch=2)),
        (3, "other", StepRefused(Refusal.BROKEN, batch=3)),
        (4, "t4", StepRefused(Refusal.BROKEN, batch=4)),
    ],
)
async def test_a_bless_checks_the_chain_from_the_journal_to_the_newest_batch(
    stage: ProtocolRig, batch: int, token: str, answer: StepRefused | None
) -> None:
    await bless(stage)
    await decide(stage, "t1", "t2", "t3")
    seen = await stage.handover.unbless(2)
    assert isinstance(seen, ServerState)
    assert (seen.batch, seen.token) == (3, "t3")
    assert await stage.handover.bless(2, seen, batch, token) == answer


async def test_a_bless_notices_an_entry_that_is_missing(stage: ProtocolRig) -> None:
    await bless(stage)
    await decide(stage, "t1", "t2", "t3")
    await stage.redis.xdel(stage.prefix + "outbox", "2-0")
    seen = await stage.handover.unbless(2)
    assert isinstance(seen, ServerState)
    assert await stage.handover.bless(2, seen, 1, "t1") == StepRefused(Refusal.BROKEN, batch=2)
