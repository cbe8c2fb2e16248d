"""The table of routes and roles, against the real table of routes: every pair."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from stocktide.api.access.caller import CALLER, OPEN, RIGHTS, ROLES, Caller
from stocktide.api.access.roles import PUBLIC, ROLES_OF, TICKETED, roles_of
from stocktide.api.access.scopes import (
    OWNERS,
    OrderOwners,
    admit_event,
    frames_without_warehouses,
)
from stocktide.api.routes.route import Handlers
from stocktide.api.routes.table import make_routes
from stocktide.api.spec.served import with_documents
from stocktide.streams.contract.events import Event, Malformed, decode_event
from stocktide.streams.contract.redaction import without_warehouses

# The handlers are not called: the table of routes needs them as objects.
ROUTES = with_documents(make_routes(cast(Handlers, MagicMock())), "1")
PAIRS = [(route.method, route.path) for route in ROUTES]
ALL = set(ROLES)
WATCHERS = {"operator", "approver", "viewer"}
# Written by hand, as a person reads the rules: a change of the table has to be made here too.
EXPECTED: dict[str, set[str]] = {
    "POST /v1/orders": {"operator", "channel"},
    "GET /v1/orders": WATCHERS | {"channel"},
    "GET /v1/orders/{order_id}": WATCHERS | {"channel"},
    "POST /v1/orders/{order_id}/pay": {"operator", "channel"},
    "POST /v1/orders/{order_id}/cancel": {"operator", "channel"},
    "POST /v1/orders/{order_id}/change": {"operator", "channel"},
    "POST /v1/orders/{order_id}/extend": {"operator", "channel"},
    "POST /v1/preorders/{order_id}/hold_back": {"operator"},
    "POST /v1/preorders/{order_id}/assign": {"operator"},
    "GET /v1/approvals": WATCHERS,
    "GET /v1/approvals/{id}": WATCHERS,
    "POST /v1/approvals/{id}/approve": {"operator", "approver"},
    "POST /v1/approvals/{id}/reject": {"operator", "approver"},
    "POST /v1/events": {"operator", "channel", "warehouse"},
    "POST /v1/movements": {"operator", "warehouse"},
    "GET /v1/warehouses/{warehouse}/movements/{id}": WATCHERS | {"warehouse"},
    "GET /v1/expected": WATCHERS | {"warehouse"},
    "GET /v1/stock/{sku}": WATCHERS,
    "GET /v1/stock/{sku}/history": WATCHERS,
    "GET /v1/preorders": WATCHERS,
    "GET /v1/stock": WATCHERS,
    "GET /v1/whoami": ALL,
    "GET /v1/audit": WATCHERS,
    "GET /v1/alerts": WATCHERS,
    "GET /v1/alerts/types": WATCHERS,
    "GET /v1/dead-letters": WATCHERS,
    "GET /v1/dead-letters/{partition}/{offset}": WATCHERS,
    "POST /v1/dead-letters/{partition}/{offset}/retry": {"operator"},
    "POST /v1/dead-letters/{partition}/{offset}/drop": {"operator"},
    "GET /v1/health": WATCHERS,
    "GET /v1/health/series": WATCHERS,
    "GET /v1/health/score": WATCHERS,
    "GET /v1/health/score/days": WATCHERS,
    "GET /v1/reports": WATCHERS,
    "GET /v1/reports/{channel}": WATCHERS | {"channel"},
    "PUT /v1/complaints/{channel}": {"operator", "channel"},
    "GET /v1/webhooks": WATCHERS | {"channel"},
    "GET /v1/webhooks/{name}": WATCHERS | {"channel"},
    "PUT /v1/webhooks/{name}": {"operator", "channel"},
    "DELETE /v1/webhooks/{name}": {"operator", "channel"},
    "POST /v1/webhooks/{name}/test": {"operator", "channel"},
    "POST /v1/webhooks/{name}/replay": {"operator", "channel"},
    "POST /v1/webhooks/{name}/rotate": {"operator", "channel"},
    "GET /v1/pools": WATCHERS | {"warehouse"},
    "GET /v1/channels": WATCHERS,
    "GET /v1/channels/{channel}/stock": WATCHERS | {"channel"},
    "GET /v1/channels/{channel}/feed": WATCHERS | {"channel"},
    "GET /v1/channels/{channel}/orders/feed": WATCHERS | {"channel"},
    "GET /v1/channels/{channel}/socket": WATCHERS | {"channel"},
    "POST /v1/feeds/tickets": WATCHERS | {"channel"},
    "GET /v1/policies/{channel}": WATCHERS,
    "PUT /v1/policies/{channel}": {"operator"},
    "DELETE /v1/policies/{channel}": {"operator"},
    "GET /v1/policies/{channel}/{sku}": WATCHERS,
    "PUT /v1/policies/{channel}/{sku}": {"operator"},
    "DELETE /v1/policies/{channel}/{sku}": {"operator"},
    "POST /v1/policies/{channel}/preview": {"operator", "approver"},
    "GET /v1/policy_history/{channel}": WATCHERS,
    "POST /v1/policies/{channel}/rollback": {"operator"},
    "POST /v1/policies/{channel}/request": {"operator"},
    "POST /v1/policies/{channel}/{sku}/preview": {"operator", "approver"},
    "GET /v1/policy_history/{channel}/{sku}": WATCHERS,
    "POST /v1/policies/{channel}/{sku}/rollback": {"operator"},
    "POST /v1/policies/{channel}/{sku}/request": {"operator"},
    "GET /metrics": {"operator", "metrics"},
}
OPEN_TO_ALL = {
    "POST /v1/intake/{name}",
    "GET /healthz",
    "GET /readyz",
    "GET /",
    "GET /board/{path}",
    "GET /problems/{code}",
    "GET /openapi.json",
    "GET /asyncapi.json",
}


def test_every_route_has_an_entry_and_every_entry_a_route() -> None:
    assert set(PAIRS) == set(ROLES_OF)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), PAIRS)
def test_a_role_may_call_what_is_written_here_and_nothing_else(method: str, path: str, role: str) -> None:
    name, roles = f"{method} {path}", roles_of(method, path)
    if name in OPEN_TO_ALL:
        assert roles is PUBLIC
    else:
        assert roles is not PUBLIC
        assert (role in roles) == (role in EXPECTED[name])


def test_a_route_that_nobody_entered_is_for_operators() -> None:
    assert roles_of("POST", "/v1/new") == {"operator"}


def test_tickets_open_feeds_and_nothing_else() -> None:
    feeds = ("feed", "orders/feed", "socket")
    assert {f"/v1/channels/{{channel}}/{feed}" for feed in feeds} == TICKETED


SHOP = Caller("k1", "channel", "own", channel="own")
STORE = Caller("k2", "warehouse", "wms", warehouses=("SH1",))
ALL_STORES = Caller("k4", "warehouse", "wms")
OPERATOR = Caller("k3", "operator", "chen", rights=frozenset(RIGHTS))
PLACED = {"type": "order.placed", "order_id": "mine-2", "channel": "own", "lines": [{"sku": "a", "quantity": 1}]}
RECEIVED = {"type": "stock.received", "warehouse": "SH1", "lines": [{"sku": "a", "quantity": 1}]}
SHIPPED = {"type": "order.shipped", "order_id": "mine", "lines": [{"sku": "a", "quantity": 1, "warehouse": "SH1"}]}


async def _channel_of(order_id: str) -> str | None:
    return {"mine": "own", "theirs": "jd"}.get(order_id)


def request_of(caller: Caller) -> web.Request:
    request = make_mocked_request("POST", "/v1/events")
    request[CALLER], request[OWNERS] = caller, OrderOwners(_channel_of)
    return request


def decoded(event: dict[str, Any]) -> Event:
    found = decode_event(orjson.dumps({"id": "e", "occurred_at": "2026-01-01T00:00:00Z", **event}))
    assert not isinstance(found, Malformed), found
    return found


async def refused(caller: Caller, event: dict[str, Any]) -> str | None:
    admitted = await admit_event(request_of(caller), decoded(event))
    return admitted.code if isinstance(admitted, Malformed) else None


@pytest.mark.parametrize(
    ("caller", "event", "code"),
    [
        (SHOP, PLACED, None),
        (SHOP, {**PLACED, "channel": "jd"}, "forbidden"),
        (SHOP, {**PLACED, "priority": "vip"}, "forbidden"),
        (SHOP, {**PLACED, "accept": "sold"}, "forbidden"),
        (SHOP, {**PLACED, "purpose": "promo"}, "forbidden"),
        (SHOP, {**PLACED, "supersedes": "mine"}, None),
        (SHOP, {**PLACED, "supersedes": "theirs"}, "unknown_order"),
        (SHOP, {"type": "order.cancelled", "order_id": "mine"}, None),
        (SHOP, {"type": "order.cancelled", "order_id": "mine", "channel": "jd"}, "forbidden"),
        (SHOP, RECEIVED, "forbidden"),
        (SHOP, SHIPPED, "forbidden"),
        (STORE, RECEIVED, None),
        (STORE, {**RECEIVED, "warehouse": "BJ1"}, "forbidden"),
        (STORE, {**RECEIVED, "type": "stock.transferred", "to_warehouse": "BJ1"}, "forbidden"),
        (STORE, SHIPPED, None),
        (STORE, {**SHIPPED, "lines": [{"sku": "a", "quantity": 1, "warehouse": "BJ1"}]}, "forbidden"),
        (STORE, PLACED, "forbidden"),
        (ALL_STORES, {**RECEIVED, "type": "stock.transferred", "to_warehouse": "BJ1"}, None),
        (ALL_STORES, SHIPPED, None),
        (ALL_STORES, PLACED, "forbidden"),
        (ALL_STORES, {"type": "order.cancelled", "order_id": "mine"}, "forbidden"),
        (OPERATOR, {**PLACED, "channel": "jd", "priority": "vip"}, None),
        (OPERATOR, {**PLACED, "force": True, "reason": "r", "actor": "chen"}, None),
        (OPERATOR, {**PLACED, "force": True, "reason": "r", "actor": "li"}, "forbidden"),
        (OPERATOR, {**PLACED, "force": True, "reason": "r"}, "forbidden"),
        (OPEN, {**PLACED, "force": True, "reason": "r", "actor": "li"}, None),
    ],
)
async def test_an_event_is_taken_from_whom_it_concerns(caller: Caller, event: dict[str, Any], code: str | None) -> None:
    assert await refused(caller, event) == code


@pytest.mark.parametrize("order_id", ["mine", "theirs", "nobody"])
@pytest.mark.parametrize("kind", ["paid", "cancelled", "changed", "extended"])
async def test_what_a_channel_says_of_any_order_carries_its_channel(kind: str, order_id: str) -> None:
    """Whose order it is, is decided by the ledger, once the order is there: the answer does not depend on it."""
    event = {"type": f"order.{kind}", "order_id": order_id, "add": [{"sku": "a", "quantity": 1}]}
    request = request_of(SHOP)
    admitted = await admit_event(request, decoded(event))
    assert not isinstance(admitted, Malformed)
    assert getattr(admitted, "channel", None) == "own"
    unchanged = decoded({**event, "channel": "jd"})
    assert await admit_event(request_of(OPERATOR), unchanged) is unchanged


async def test_an_order_of_another_channel_costs_as_many_reads_as_an_unknown_one() -> None:
    reads: list[str] = []

    async def read(order_id: str) -> str | None:
        reads.append(order_id)
        return await _channel_of(order_id)

    owners = OrderOwners(read, remembered_max=1)
    for _ in range(3):
        assert await owners.is_of("mine", "own")
        assert not await owners.is_of("theirs", "own")
        assert not await owners.is_of("nobody", "own")
    assert [reads.count(order_id) for order_id in ("mine", "theirs", "nobody")] == [1, 3, 3]


def test_a_channel_sees_no_warehouses_in_documents_and_frames() -> None:
    order = b'{"lines":[{"sku":"a","warehouses":{"SH1":2},"short":0}]}'
    assert without_warehouses(order) == b'{"lines":[{"sku":"a","short":0}]}'
    frames = b"id: 1\nevent: order\ndata: " + order + b"\n\n: heartbeat\n\n"
    assert frames_without_warehouses(frames) == (
        b'id: 1\nevent: order\ndata: {"lines":[{"sku":"a","short":0}]}\n\n: heartbeat\n\n'
    )
