"""Who changed what, over HTTP: as NDJSON and as CSV, by page, by actor and by time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from stocktide.api.handlers.audit_log import NEXT_HEADER
from stocktide.api.requests import ACTOR_HEADER
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually


async def rows_of(shop: ApiTestClient, query: str, limit: int = 100) -> list[dict[str, Any]]:
    """The rows of all pages."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        async with shop.session.get(f"{shop.api}/v1/audit?{query}&limit={limit}{cursor}") as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson; charset=utf-8")
            page = [orjson.loads(line) for line in (await answer.read()).splitlines()]
        assert len(page) <= limit
        rows += page
        if (following := answer.headers.get(NEXT_HEADER)) is None:
            return rows
        cursor = f"&cursor={following}"


async def rows_when(shop: ApiTestClient, query: str, count: int) -> list[dict[str, Any]]:
    """The rows once there are so many."""
    found: list[dict[str, Any]] = []

    async def are_there() -> bool:
        found[:] = await rows_of(shop, query)
        return len(found) >= count

    await eventually(are_there)
    assert len(found) == count
    return found


async def test_every_change_of_an_actor_is_a_row_with_what_was_before_and_after(shop: ApiTestClient) -> None:
    actor, channel, sku = unique_name("ann"), unique_name("channel"), await shop.receive_new(1)
    headers = {ACTOR_HEADER: actor}
    began = datetime.now(UTC).isoformat()
    put: Callable[[dict[str, Any]], Any] = lambda policy: shop.call(  # noqa: E731
        "PUT", f"/v1/policies/{channel}", policy, headers=headers
    )
    preorder = {"below_threshold": "preorder", "preorder_cap": 9, "safety_threshold": 5}
    for policy in ({"buffer": 1}, preorder):
        assert (await put(policy)).status == 200
    waiting = (await shop.place(sku, 1, channel=channel)).body
    assert waiting["lines"][0]["state"] == "preordered"
    path = f"/v1/preorders/{waiting['order_id']}"
    reason = {"reason": "=HYPERLINK(1)"}
    assert (await shop.call("POST", f"{path}/hold_back", reason, headers=headers)).status == 200
    assert (await shop.call("POST", f"{path}/hold_back", {**reason, "held": False}, headers=headers)).status == 200
    assert (await shop.call("POST", f"{path}/assign", reason, headers=headers)).status == 200
    forced = {
        "order_id": unique_name("order"),
        "channel": channel,
        "lines": [{"sku": sku, "quantity": 1}],
        "force": True,
    }
    assert (await shop.call("POST", "/v1/orders", {**forced, "reason": "why"}, headers=headers)).status == 202
    rejection = {"reason": "no"}
    reject = f"/v1/approvals/{forced['order_id']}/reject"
    assert (await shop.call("POST", reject, rejection, headers=headers)).status == 200
    assert (await shop.call("DELETE", f"/v1/policies/{channel}", headers=headers)).status == 204
    actions = ["policy_set", "policy_set", "held_back", "released", "assigned"]
    actions += ["approval_requested", "approval_rejected", "policy_deleted"]
    rows = await rows_when(shop, f"actor={actor}&since={began.replace('+00:00', 'Z')}", len(actions))
    assert [row["action"] for row in rows] == actions
    assert (rows[0]["before"], rows[0]["after"]) == (None, {"buffer": 1})
    assert (rows[1]["before"], rows[1]["after"]) == ({"buffer": 1}, preorder)
    assert (rows[4]["before"][0]["preordered"], rows[4]["after"][0]["reserved"]) == (1, 1)
    assert (rows[7]["before"], rows[7]["after"]) == (preorder, None)
    assert await rows_of(shop, f"actor={actor}", limit=3) == rows
    assert await rows_of(shop, f"actor={actor}&since=2100-01-01T00:00:00Z") == []
    await _check_csv(shop, actor, rows)


async def _check_csv(shop: ApiTestClient, actor: str, rows: list[dict[str, Any]]) -> None:
    answer = await shop.call("GET", f"/v1/audit?actor={actor}", headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert (await shop.get(f"/v1/audit?actor={actor}&format=csv")).body == answer.body
    table = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    assert [(row["action"], row["at"]) for row in table] == [(row["action"], row["at"]) for row in rows]
    assert [orjson.loads(row["after"]) for row in table] == [row["after"] for row in rows]
    assert table[2]["reason"] == "'=HYPERLINK(1)", "no spreadsheet takes it as a formula"


async def test_what_is_no_page_of_the_audit_is_refused(shop: ApiTestClient) -> None:
    for query, path in (("since=now", "since"), ("format=xml", "format"), ("cursor=x", "cursor"), ("limit=0", "limit")):
        answer = await shop.get(f"/v1/audit?{query}")
        assert (answer.status, answer.body["errors"][0]["path"]) == (422, path)
