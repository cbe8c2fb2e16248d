"""The Lua steps of relay and takeover, each on its own, on a real server."""

from __future__ import annotations

import re

import pytest

from stocktide.streams.journal.record import Position
from stocktide.tables.ledger.client import Unblessed
from stocktide.tables.ledger.control import Refusal, ServerState, SettledUpTo, StepRefused
from stocktide.tables.ledger.scripts import load_source
from tests.protocol.rig import ProtocolRig, receive


async def unbless(rig: ProtocolRig, term: int) -> ServerState:
    seen = await rig.control.unbless(term)
    assert isinstance(seen, ServerState)
    return seen


async def bless(rig: ProtocolRig, term: int = 1) -> ServerState:
    seen = await unbless(rig, term)
    assert await rig.control.bless(term, seen, 0, "") is None
    return seen


async def decide(rig: ProtocolRig, *tokens: str) -> None:
    for token in tokens:
        await rig.ledger.apply([receive(f"r-{token}")], token=token)


def at(offset: int, batch: int, token: str, term: int = 1) -> Position:
    return Position(offset, term, "a", batch, token)


def test_every_refusal_of_the_steps_is_known_in_python() -> None:
    steps = ("outbox", "settle", "unbless", "bless", "redo", "flush", "load")
    refusals = {word for step in steps for word in re.findall(r"return \{ '(\w+)'", load_source(step))}
    refusals |= set(re.findall(r"return '(\w+)'", load_source("bless")))
    assert refusals - {"ok", "settled", "blessed", "redone", "flushed", "loaded"} == {str(each) for each in Refusal}


async def test_apply_is_refused_while_unblessed(rig: ProtocolRig) -> None:
    with pytest.raises(Unblessed):
        await decide(rig, "t1")
    seen = await bless(rig)
    await decide(rig, "t1")
    await rig.control.unbless(2)
    with pytest.raises(Unblessed):
        await decide(rig, "t2")
    assert (await rig.control.unbless(3)).batch == 1
    assert seen.batch == 0


async def test_the_outbox_is_read_in_order_and_within_its_bounds(rig: ProtocolRig) -> None:
    await bless(rig)
    await decide(rig, *(f"t{n}" for n in range(1, 41)))
    entries = await rig.control.outbox(1, 3, 30, 1 << 20)
    assert not isinstance(entries, StepRefused)
    assert [entry.batch for entry in entries] == list(range(3, 33))
    assert all(entry.previous == f"t{entry.batch - 1}" for entry in entries)
    one = await rig.control.outbox(1, 3, 30, 1)
    assert not isinstance(one, StepRefused)
    assert [entry.token for entry in one] == ["t3"]
    assert await rig.control.outbox(1, 41, 30, 1 << 20) == ()


async def test_relay_steps_of_another_term_are_refused(rig: ProtocolRig) -> None:
    await bless(rig, term=2)
    assert await rig.control.outbox(1, 1, 10, 1000) == StepRefused(Refusal.HIGHER_TERM)
    assert await rig.control.settle(1, [at(1, 0, "")]) == StepRefused(Refusal.HIGHER_TERM)
    assert await rig.control.outbox(3, 1, 10, 1000) == StepRefused(Refusal.UNBLESSED)


async def test_a_blessing_of_another_server_does_not_count(rig: ProtocolRig) -> None:
    await bless(rig)
    await rig.redis.hset(rig.prefix + "blessed", "run_id", "another")
    assert await rig.control.outbox(1, 1, 10, 1000) == StepRefused(Refusal.UNBLESSED)
    with pytest.raises(Unblessed):
        await decide(rig, "t1")


async def test_settle_trims_the_outbox_stores_the_position_and_publishes(rig: ProtocolRig) -> None:
    await bless(rig)
    await decide(rig, "t1", "t2", "t3")
    async with rig.redis.pubsub() as listener:
        await listener.subscribe(rig.prefix + "settled")
        assert await rig.control.settle(1, [at(2, 1, "t1"), at(3, 2, "t2")]) == SettledUpTo(2)
        assert (await listener.get_message(timeout=2))["type"] == "subscribe"  # type: ignore[index]
        assert await listener.get_message(timeout=2) is not None
    assert await rig.control.settled() == at(3, 2, "t2")
    assert await rig.outbox_size() == 1


async def test_settle_never_goes_back(rig: ProtocolRig) -> None:
    await bless(rig)
    await decide(rig, "t1", "t2", "t3")
    await rig.control.settle(1, [at(2, 1, "t1"), at(3, 2, "t2"), at(4, 3, "t3")])
    assert await rig.control.settle(1, [at(2, 1, "t1")]) == SettledUpTo(3)
    assert await rig.control.settle(1, [at(1, 0, "")]) == SettledUpTo(3)
    assert await rig.control.settled() == at(4, 3, "t3")


async def test_a_marker_moves_the_settled_position_and_no_batch(rig: ProtocolRig) -> None:
    await bless(rig)
    await decide(rig, "t1")
    await rig.control.settle(1, [at(2, 1, "t1"), at(9, 1, "t1", term=4)])
    assert await rig.control.settled() == at(9, 1, "t1", term=4)


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
async def test_settling_a_batch_outside_the_outbox_is_a_fork_and_changes_nothing(
    rig: ProtocolRig, positions: list[Position]
) -> None:
    await bless(rig)
    await decide(rig, "t1", "t2", "t3")
    answer = await rig.control.settle(1, positions)
    assert isinstance(answer, StepRefused)
    assert answer.reason is Refusal.FORK
    assert await rig.control.settled() is None
    assert await rig.outbox_size() == 3


async def test_settling_the_settled_batch_under_another_token_is_a_fork(rig: ProtocolRig) -> None:
    await bless(rig)
    await decide(rig, "t1")
    await rig.control.settle(1, [at(2, 1, "t1")])
    assert await rig.control.settle(1, [at(3, 1, "other")]) == StepRefused(Refusal.FORK, batch=1)


async def test_a_recovery_yields_to_a_higher_term(rig: ProtocolRig) -> None:
    older = await unbless(rig, 4)
    await rig.control.unbless(5)
    assert await rig.control.unbless(4) == StepRefused(Refusal.HIGHER_TERM, term=5)
    assert await rig.control.bless(4, older, 0, "") == StepRefused(Refusal.HIGHER_TERM)


async def test_a_recovery_blesses_once_and_only_the_server_that_it_began_with(rig: ProtocolRig) -> None:
    seen = await unbless(rig, 1)
    other = ServerState("another", seen.replid, 0, "", None)
    assert await rig.control.bless(1, other, 0, "") == StepRefused(Refusal.MOVED)
    assert await rig.control.bless(1, seen, 0, "") is None
    assert await rig.control.bless(1, seen, 0, "") == StepRefused(Refusal.SUPERSEDED)
    await rig.control.unbless(2)
    await rig.redis.delete(rig.prefix + "blessed")  # as a flush does
    assert await rig.control.bless(2, seen, 0, "") == StepRefused(Refusal.SUPERSEDED)


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
async def test_a_bless_checks_the_chain_up_to_the_newest_batch(
    rig: ProtocolRig, batch: int, token: str, answer: StepRefused | None
) -> None:
    await bless(rig)
    await decide(rig, "t1", "t2", "t3")
    seen = await unbless(rig, 2)
    assert (seen.batch, seen.token) == (3, "t3")
    assert await rig.control.bless(2, seen, batch, token) == answer


async def test_a_bless_notices_an_entry_that_is_missing(rig: ProtocolRig) -> None:
    await bless(rig)
    await decide(rig, "t1", "t2", "t3")
    await rig.redis.xdel(rig.prefix + "outbox", "2-0")
    seen = await unbless(rig, 2)
    assert await rig.control.bless(2, seen, 1, "t1") == StepRefused(Refusal.BROKEN, batch=2)
