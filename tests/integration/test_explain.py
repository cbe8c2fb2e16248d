"""`explain`, a SKU's history and the dead letters on a running system."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from stocktide.tables.dead_letters.reader import ALL_STATES, DeadLetterFold, DeadLetterSummary, DeadLetterTopic, State
from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient, unique_name
from tests.harness.events import AT, lines_of, order_placed, stock_received
from tests.harness.eventually import eventually
from tests.harness.process import CommandResult
from tests.harness.system import RunningSystem

# Wide enough for each sentence to stay on one line.
COLUMNS = 140


async def stocktide(running: RunningSystem, *arguments: str, status: int = 0) -> CommandResult:
    """Run a command, which has to end with this status."""
    done = await running.run(*arguments, environ={"COLUMNS": str(COLUMNS)})
    assert done.status == status, done
    return done


async def traded(shop: ApiTestClient) -> str:
    """A SKU that was received in two warehouses, sold, paid, shipped, returned, expired and counted."""
    sku, order, late = unique_name("sku"), unique_name("order"), unique_name("late")
    await shop.receive(sku, 50)
    await shop.receive(sku, 10, "BJ1")
    assert (await shop.place(sku, 2, order_id=order)).status == 201
    assert (await shop.post(f"/v1/orders/{order}/pay", {})).status == 200
    assert (await shop.place(sku, 1, order_id=late, hold_seconds=1)).status == 201
    line = {"sku": sku, "quantity": 2, "warehouse": "SH1"}
    event = {"occurred_at": AT, "order_id": order}
    await shop.send_events({**event, "type": "order.shipped", "id": "s", "lines": [line]})
    await shop.send_events({**event, "type": "order.returned", "id": "r", "lines": [{**line, "quantity": 1}]})
    await shop.get_when(f"/v1/orders/{order}", lambda answer: answer.body["lines"][0]["returned"] == 1)
    await shop.get_when(f"/v1/orders/{late}", lambda answer: answer.body["state"] == "expired")
    count = {"type": "stock.counted", "id": unique_name("count"), "occurred_at": datetime.now(UTC).isoformat()}
    await shop.move({**count, "warehouse": "SH1", "lines": lines_of((sku, 47))})
    return sku


async def test_the_history_of_a_sku_adds_up_to_its_stock(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await traded(shop)
    stock = await shop.stock(sku)
    story = (await stocktide(running, "explain", sku, "--json")).report
    assert story["now"] == stock and story["explained"] and story["from_the_beginning"]
    counters: dict[str, int] = {}
    for change in story["changes"]:
        for name, units in change["change"].items():
            counters[name] = counters.get(name, 0) + units
        on_hand = sum(units for name, units in counters.items() if name.startswith("on_hand@"))
        assert on_hand == change["after"]["on_hand"]
    assert story["changes"][-1]["after"]["available"] == stock["available"]
    output = (await stocktide(running, "explain", sku)).out
    for words in (
        "received 50 at SH1",
        "took 2: held",
        "ran out: 1 back",
        "returned 1, sellable, to SH1",
        "counted 47",
    ):
        assert words in output
    assert max(map(len, output.splitlines())) <= COLUMNS
    assert "\x1b" not in output, "colours only on a terminal"


async def test_explain_shows_a_sku_at_a_version_and_at_a_time(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await shop.receive_new(5)
    before = await shop.stock(sku)
    await asyncio.sleep(1.1)
    await shop.place(sku, 2)
    for at in (str(before["version"]), before["as_of"], before["as_of"][:19]):
        stood = (await stocktide(running, "explain", sku, "--at", at, "--json")).report
        assert {name: stood[name] for name in before} == before
    output = (await stocktide(running, "explain", sku, "--at", "1")).out
    assert "SH1" in output and "tmall" in output
    assert "the newest is" in (await stocktide(running, "explain", sku, "--at", "99", status=1)).err
    assert "was not known yet" in (await stocktide(running, "explain", sku, "--at", "2001-01-01", status=1)).err


async def test_explain_shows_the_part_that_is_asked_for(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await traded(shop)
    newest = (await stocktide(running, "explain", sku, "--json", "--limit", "2")).report
    assert len(newest["changes"]) == 2 and not newest["from_the_beginning"]
    assert newest["stood_at"]["version"] == newest["changes"][0]["version"] - 1
    output = (await stocktide(running, "explain", sku, "--json", "--warehouse", "BJ1")).out
    assert [change["change"] for change in json.loads(output)["changes"]] == [{"on_hand@BJ1": 10}]
    since = newest["changes"][0]["at"]
    assert (await stocktide(running, "explain", sku, "--json", "--since", since)).report["changes"] == newest["changes"]
    assert "no change to show" in (await stocktide(running, "explain", sku, "--since", "2099-01-01")).out
    assert "it was in: SH1, BJ1" in (await stocktide(running, "explain", sku, "--warehouse", "XX", status=2)).err
    assert "nobody" in (await stocktide(running, "explain", "nobody", status=2)).err


async def test_a_history_is_paged_from_the_newest_change_to_the_first(shop: ApiTestClient) -> None:
    sku = await traded(shop)
    stock = await shop.stock(sku)
    versions, following, after = [], "", None
    while True:
        answer = await shop.get(f"/v1/stock/{sku}/history?limit=4{following}")
        assert answer.status == 200 and answer.body["sku"] == sku and answer.body["complete"]
        versions += [item["version"] for item in answer.body["items"]]
        after = after or answer.body["items"][0]["after"]
        if answer.body["next"] is None:
            break
        following = f"&cursor={answer.body['next']}"
    assert versions == list(range(stock["version"], 0, -1))
    assert after == {name: stock[name] for name in after or ()}
    whole = (await shop.get(f"/v1/stock/{sku}/history?limit=500")).body
    assert [item["version"] for item in whole["items"]] == versions and whole["next"] is None
    since = whole["items"][3]["at"]
    part = (await shop.get(f"/v1/stock/{sku}/history?since={since}")).body
    assert part["items"] == [item for item in whole["items"] if item["at"] >= since] and part["next"] is None


async def test_a_history_that_is_asked_for_wrongly_is_refused(shop: ApiTestClient) -> None:
    sku = unique_name("sku")
    assert (await shop.get(f"/v1/stock/{sku}/history")).code == "unknown_sku"
    for query in ("limit=0", "limit=501", "limit=x", "cursor=!", "cursor=AAAA", "since=yesterday"):
        answer = await shop.get(f"/v1/stock/{sku}/history?{query}")
        assert (answer.status, answer.code) == (422, "invalid_field"), query


async def letters_when(running: RunningSystem, reason: str, count: int, states: tuple[State, ...] = ("open",)) -> Any:
    """The dead letters of a reason, oldest first, once there are `count`."""
    ready = running.ready
    box = DeadLetterTopic(f"{ready['app_id']}-dead-letters", {"bootstrap_servers": ready["kafka"]})
    found: list[DeadLetterSummary] = []

    async def are_there() -> bool:
        fold = DeadLetterFold(lambda letter: letter.reason == reason)
        async for row in box.rows():
            fold.add(row)
        found[:] = fold.letters(states)
        return len(found) == count

    await eventually(are_there, WAIT_SECONDS_MAX, lambda: str(found))
    return found


async def test_a_letter_that_is_refused_again_keeps_its_first_origin(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    sku, order = await shop.receive_new(5), unique_name("order")
    await shop.send_events(order_placed(order, sku, channel="tmall"), order_placed(order, sku))
    (letter,) = await letters_when(running, "conflict", 1)
    origin = f"orders/{letter.origin.partition}/{letter.origin.offset}"
    assert letter.key == order.encode()
    assert (await stocktide(running, "dead-letters", "show", origin, "--raw")).report["channel"] == "jd"
    assert "sent again as orders/" in (await stocktide(running, "dead-letters", "retry", origin, "--by", "mei")).out
    first, again = await letters_when(running, "conflict", 2, ALL_STATES)
    assert (first.place, first.state, first.by, again.state) == (letter.place, "retried", "mei", "open")
    assert (again.origin, again.key, again.size) == (letter.origin, letter.key, letter.size)
    assert again.place != letter.place
    await stocktide(running, "dead-letters", "drop", origin)
    await letters_when(running, "conflict", 0)
    assert "was dropped by" in (await stocktide(running, "dead-letters", "retry", origin, status=2)).err
    assert (await shop.stock(sku))["locked"] == 1


async def test_letters_are_retried_together_only_on_request(running: RunningSystem, shop: ApiTestClient) -> None:
    sku, order = unique_name("sku"), unique_name("order")
    lost = stock_received(unique_name("lost"), (sku, -1))
    await shop.send_events({**lost, "type": "stock.adjusted", "reason": "lost"})
    shipped = {"type": "order.shipped", "id": "s", "occurred_at": AT, "order_id": order}
    await shop.receive(sku, 5)
    assert (await shop.place(sku, 1, order_id=order)).status == 201
    await shop.send_events({**shipped, "lines": [{"sku": f"{sku}-other", "quantity": 1, "warehouse": "SH1"}]})
    await letters_when(running, "unknown_sku", 1)
    await letters_when(running, "not_in_order", 1)
    unconfirmed = await running.run("dead-letters", "retry", "--all")
    assert unconfirmed.status != 0, "nobody is there to say yes"
    output = (await stocktide(running, "dead-letters", "retry", "--all", "--yes", status=1)).out
    assert "1 sent again, 1 skipped" in output and "Send it under a new one" in output
    _, again = await letters_when(running, "not_in_order", 2, ALL_STATES)
    assert again.key == order.encode() and again.state == "open"
    output = (await stocktide(running, "dead-letters", "drop", "--all", "--yes", "--json")).out
    assert {done["state"] for done in json.loads(output)} == {"dropped"}
    assert (await stocktide(running, "dead-letters", "list", "--json")).report == []
