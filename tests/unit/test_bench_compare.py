"""The comparison of contenders: the same orders for all, answers against the store, and lost units."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.compare.__main__ import ContenderResult, describe_ratios, make_table
from bench.compare.rounds import check_consistency, stock_for
from bench.compare.stores import ContenderUnavailable, PostgresStore, StoreServer
from bench.http_load import HttpReserveClient, http_clients
from bench.load import (
    RETRY_SECONDS,
    BenchOrder,
    ReserveOutcome,
    ScheduledLoad,
    draw_orders,
    send_orders,
    silence,
)
from bench.service import make_app
from bench.strategies import HELD, REFUSED, STRATEGIES, ReserveStrategy
from bench.valkey import WATCH_SECONDS, BenchValkey
from stocktide.embedded.ports import pick_free_port

ORDERS = [BenchOrder("a", "S", 2), BenchOrder("b", "S", 2), BenchOrder("c", "S", 1), BenchOrder("d", "T", 1)]


def answer_log(letters: str) -> dict[str, ReserveOutcome]:
    """The answers of the orders a, b, c, d: `H` held, `R` refused."""
    outcomes = {"H": ReserveOutcome.HELD, "R": ReserveOutcome.REFUSED}
    return {order: outcomes[letter] for order, letter in zip("abcd", letters, strict=False)}


# The letters of the answers, the stock, the orders that the store holds and what it has left; and the verdict's fields.
VERDICTS: dict[str, tuple[str, dict[str, int], str, dict[str, int], dict[str, int]]] = {
    "what the store confirms is no loss": (
        *("HHRH", {"S": 4, "T": 2}, "abd", {"S": 0, "T": 1}),
        {"held_units": 5, "refused_orders": 1, "broken": False},
    ),
    "units answered beyond the received ones are oversold even if the store has no trace": (
        *("HHHH", {"S": 3, "T": 9}, "bcd", {"S": 0, "T": 8}),
        {"oversold_units": 2, "lost_orders": 1, "lost_units": 2, "leaked_units": 0},
    ),
    "an order that the store refused after the answer held is lost": (
        *("HRRR", {"S": 4, "T": 2}, "", {"S": 4, "T": 2}),
        {"lost_units": 2},
    ),
    "units that are gone without an answer are leaked": (
        *("HRRH", {"S": 5, "T": 2}, "ad", {"S": 0, "T": 1}),
        {"leaked_units": 3, "oversold_units": 0, "broken": True},
    ),
    "a SKU that leaks does not make up for one that is oversold": (
        *("HHRR", {"S": 3, "T": 2}, "ab", {"S": 0, "T": 0}),
        {"oversold_units": 1, "leaked_units": 2},
    ),
    "unanswered orders are counted": ("H", {"S": 4, "T": 2}, "a", {"S": 2, "T": 2}, {"unanswered": 3, "broken": True}),
}


@pytest.mark.parametrize(("answers", "stock", "held", "left", "fields"), VERDICTS.values(), ids=VERDICTS)
def test_answers_are_compared_with_the_store(
    answers: str, stock: dict[str, int], held: str, left: dict[str, int], fields: dict[str, int]
) -> None:
    verdict = check_consistency(ORDERS, stock, answer_log(answers), set(held), left)
    assert {name: getattr(verdict, name) for name in fields} == fields


def test_every_contender_is_asked_the_same_orders_and_one_sku_is_hot() -> None:
    first, second = (list(itertools.islice(draw_orders("x", 50, 0.2, 3, seed=7), 5_000)) for _ in range(2))
    assert first == second
    assert len({order.order_id for order in first}) == 5_000
    hot = sum(order.sku == "x-HOT" for order in first)
    assert 850 < hot < 1_150
    assert {order.sku for order in first} == {"x-HOT", *(f"x-S{number}" for number in range(50))}


def test_less_is_received_than_is_asked_for() -> None:
    assert stock_for(ORDERS, 0.75) == {"S": 3, "T": 1}


class ScriptedCaller:
    """Gets the answers of a script, then `held`."""

    def __init__(self, *script: ReserveOutcome) -> None:
        self._script = list(script)
        self.asked: list[str] = []

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        self.asked.append(order.order_id)
        await asyncio.sleep(0)
        return self._script.pop(0) if self._script else ReserveOutcome.HELD


async def test_a_caller_without_an_answer_repeats_the_same_order() -> None:
    caller = ScriptedCaller(ReserveOutcome.NONE, ReserveOutcome.NONE, ReserveOutcome.REFUSED)
    demand = ScheduledLoad(ORDERS, rate=1e6)
    await demand.run([caller])
    assert caller.asked == ["a", "a", "a", "b", "c", "d"]
    assert demand.answers == answer_log("RHHH")


async def test_a_caller_gives_up_in_the_end_and_the_run_goes_on() -> None:
    caller = ScriptedCaller(*[ReserveOutcome.NONE] * 4)
    demand = ScheduledLoad(ORDERS[:2], rate=1e6, patience_seconds=3.5 * RETRY_SECONDS)
    await demand.run([caller])
    assert demand.answers == {"b": ReserveOutcome.HELD}
    assert demand.half.is_set()


async def test_orders_come_at_their_rate_and_the_half_is_signalled() -> None:
    demand = ScheduledLoad(ORDERS, rate=20.0)
    began = time.monotonic()
    running = asyncio.create_task(demand.run([ScriptedCaller(), ScriptedCaller()]))
    await demand.half.wait()
    assert len(demand.answers) == 2
    await running
    assert time.monotonic() - began >= 3 / 20


def test_silence_is_the_longest_pause_after_the_kill_whatever_was_under_way_then() -> None:
    responded_at = [1.0, 9.5, 10.1, 14.0, 14.5]
    assert silence(responded_at, 10.0) == pytest.approx((0.1, 3.9))
    assert silence(responded_at, 20.0) == (float("inf"), 0.0)


async def test_only_what_was_held_counts_as_speed() -> None:
    caller = ScriptedCaller(*[ReserveOutcome.REFUSED] * 10)
    pace = await send_orders([caller], draw_orders("x", 5, 0.0, 1, seed=1), 0.05)
    assert pace.other == 10
    assert pace.rate < len(caller.asked) / 0.05


async def test_a_loop_in_which_nothing_is_held_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="no order was held"):
        await send_orders(
            [ScriptedCaller(*[ReserveOutcome.REFUSED] * 1_000_000)], draw_orders("x", 5, 0.0, 1, seed=1), 0.01
        )


class ScriptedServer:
    """Answers with the given statuses in turn; 0 aborts the connection."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.bodies: list[bytes] = []

    async def place(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        status = self._statuses.pop(0)
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 200, body=b"{}")


async def test_a_client_reads_the_answers_and_reconnects() -> None:
    script, app = ScriptedServer(201, 409, 503, 0, 200), web.Application()
    app.router.add_post("/v1/orders", script.place)
    async with TestServer(app) as server, http_clients(server.port or 0, 1) as callers:
        answers = [await callers[0].reserve(ORDERS[0]) for _ in range(5)]
    assert [answer.name for answer in answers] == ["HELD", "REFUSED", "NONE", "NONE", "HELD"]
    assert orjson.loads(script.bodies[0])["lines"] == [{"sku": "S", "quantity": 2}]


async def test_a_service_that_is_not_there_is_no_answer() -> None:
    assert await HttpReserveClient(pick_free_port()).reserve(ORDERS[0]) is ReserveOutcome.NONE


async def test_the_request_is_an_order_for_a_strategy() -> None:
    class Full:
        asked: tuple[str, str, int] | None = None

        async def reserve(self, order_id: str, sku: str, units: int) -> str:
            self.asked = order_id, sku, units
            return REFUSED

        async def close(self) -> None:
            pass

    strategy = Full()
    async with TestServer(make_app(strategy)) as server:  # type: ignore[arg-type]
        assert await HttpReserveClient(server.port or 0).reserve(ORDERS[0]) is ReserveOutcome.REFUSED
    assert strategy.asked == ("a", "S", 2)


@asynccontextmanager
async def running(name: str, folder: Path, always: bool = False) -> AsyncIterator[tuple[StoreServer, ReserveStrategy]]:
    """A contender with its store; the test is skipped where the store is not installed."""
    try:
        store: StoreServer = (
            PostgresStore(folder / "postgres.log")
            if name == "row-lock"
            else BenchValkey(folder / "valkey", folder / "valkey.log", always)
        )
    except ContenderUnavailable as absent:
        pytest.skip(str(absent))
    await store.start()
    strategy = STRATEGIES[name](store.url)
    try:
        yield store, strategy
    finally:
        await strategy.close()
        await store.stop()


@pytest.mark.parametrize("name", sorted(STRATEGIES))
async def test_a_way_holds_what_is_there_once_however_often_it_is_asked(name: str, tmp_path: Path) -> None:
    async with running(name, tmp_path) as (_, strategy):
        await strategy.open({"S": 3})
        units = {"a": 2, "b": 2, "c": 1}
        asked = [*units] * 3
        states = await asyncio.gather(*(strategy.reserve(order_id, "S", units[order_id]) for order_id in asked))
        assert states[:3] == states[3:6] == states[6:]
        held = {order_id for order_id, state in zip(asked, states, strict=True) if state == HELD}
        assert sum(units[order_id] for order_id in held) == 3  # "c", and "a" or "b"
        assert await strategy.held(["a", "b", "c", "unknown"]) == held
        assert await strategy.left(["S"]) == {"S": 0}


async def test_postgres_comes_back_from_a_kill_with_what_was_committed(tmp_path: Path) -> None:
    async with running("row-lock", tmp_path) as (store, strategy):
        await strategy.open({"S": 3})
        assert await strategy.reserve("a", "S", 2) == HELD
        store.watch()
        assert "kill -9" in await store.lose()
        assert await strategy.held(["a"]) == {"a"}
        assert await strategy.left(["S"]) == {"S": 1}


@pytest.mark.parametrize(("always", "kept"), [(False, set()), (True, {"a"})])
async def test_valkey_loses_its_last_writes_unless_it_syncs_always(
    always: bool, kept: set[str], tmp_path: Path
) -> None:
    async with running("lua", tmp_path, always) as (store, strategy):
        await strategy.open({"S": 3})
        store.watch()
        await asyncio.sleep(3 * WATCH_SECONDS)
        assert await strategy.reserve("a", "S", 2) == HELD
        await asyncio.sleep(3 * WATCH_SECONDS)
        await store.lose()
        assert await strategy.held(["a"]) == kept
        assert await strategy.left(["S"]) == {"S": 1 if kept else 3}


def test_a_contender_that_is_not_installed_is_listed_as_absent() -> None:
    made = make_table([ContenderResult("row-lock", "PostgreSQL", missing="not installed")])
    assert list(made.columns[1].cells) == ["ABSENT: not installed"]


def test_a_ratio_to_a_contender_that_is_absent_says_so_by_name() -> None:
    found = [
        ContenderResult("stocktide", "Stocktide"),
        ContenderResult("row-lock", "PostgreSQL", missing="not installed"),
    ]
    assert describe_ratios(found) == ["Stocktide : PostgreSQL: ABSENT: not installed"]
