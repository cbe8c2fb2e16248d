"""The one table of routes and roles: who may call what.

In: method and path of a route. Out: the roles that may call it; none known: the operator only. Everyone may call what
is `PUBLIC`. A role that is limited to a channel or to warehouses is limited further by `scopes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from stocktide.api.access.caller import APPROVER, CHANNEL, METRICS, OPERATOR, ROLES, VIEWER, WAREHOUSE

Roles = frozenset[str]

PUBLIC: Roles = frozenset(("public",))
_OPERATORS: Roles = frozenset((OPERATOR,))
_EVERY_HOLDER: Roles = frozenset(ROLES) - {METRICS}
_WATCHERS: Roles = frozenset((OPERATOR, APPROVER, VIEWER))
_SHOP: Roles = frozenset((OPERATOR, CHANNEL))
_WATCHED_SHOP: Roles = _WATCHERS | {CHANNEL}
_STORE: Roles = frozenset((OPERATOR, WAREHOUSE))
_WATCHED_STORE: Roles = _WATCHERS | {WAREHOUSE}
_APPROVERS: Roles = frozenset((OPERATOR, APPROVER))

ROLES_OF: Mapping[tuple[str, str], Roles] = {
    ("POST", "/v1/orders"): _SHOP,
    ("GET", "/v1/orders"): _WATCHED_SHOP,
    ("GET", "/v1/orders/{order_id}"): _WATCHED_SHOP,
    ("POST", "/v1/orders/{order_id}/pay"): _SHOP,
    ("POST", "/v1/orders/{order_id}/cancel"): _SHOP,
    ("POST", "/v1/orders/{order_id}/change"): _SHOP,
    ("POST", "/v1/orders/{order_id}/extend"): _SHOP,
    ("POST", "/v1/preorders/{order_id}/hold_back"): _OPERATORS,
    ("POST", "/v1/preorders/{order_id}/assign"): _OPERATORS,
    ("GET", "/v1/approvals"): _WATCHERS,
    ("GET", "/v1/approvals/{id}"): _WATCHERS,
    ("POST", "/v1/approvals/{id}/approve"): _APPROVERS,
    ("POST", "/v1/approvals/{id}/reject"): _APPROVERS,
    ("POST", "/v1/events"): frozenset((OPERATOR, CHANNEL, WAREHOUSE)),
    ("POST", "/v1/movements"): _STORE,
    ("GET", "/v1/warehouses/{warehouse}/movements/{id}"): _WATCHED_STORE,
    ("GET", "/v1/expected"): _WATCHED_STORE,
    ("GET", "/v1/stock/{sku}"): _WATCHERS,
    ("GET", "/v1/stock/{sku}/history"): _WATCHERS,
    ("GET", "/v1/stock"): _WATCHERS,
    ("GET", "/v1/audit"): _WATCHERS,
    ("GET", "/v1/alerts"): _WATCHERS,
    ("GET", "/v1/alerts/types"): _WATCHERS,
    ("GET", "/v1/dead-letters"): _WATCHERS,
    ("GET", "/v1/dead-letters/{partition}/{offset}"): _WATCHERS,
    ("POST", "/v1/dead-letters/{partition}/{offset}/retry"): _OPERATORS,
    ("POST", "/v1/dead-letters/{partition}/{offset}/drop"): _OPERATORS,
    ("GET", "/v1/health"): _WATCHERS,
    ("GET", "/v1/health/series"): _WATCHERS,
    ("GET", "/v1/health/score"): _WATCHERS,
    ("GET", "/v1/health/score/days"): _WATCHERS,
    ("GET", "/v1/reports"): _WATCHERS,
    ("GET", "/v1/reports/{channel}"): _WATCHED_SHOP,
    ("PUT", "/v1/complaints/{channel}"): _SHOP,
    ("GET", "/v1/webhooks"): _WATCHED_SHOP,
    ("GET", "/v1/webhooks/{name}"): _WATCHED_SHOP,
    ("PUT", "/v1/webhooks/{name}"): _SHOP,
    ("DELETE", "/v1/webhooks/{name}"): _SHOP,
    ("POST", "/v1/webhooks/{name}/test"): _SHOP,
    ("POST", "/v1/webhooks/{name}/replay"): _SHOP,
    ("POST", "/v1/webhooks/{name}/rotate"): _SHOP,
    # The signature is the proof.
    ("POST", "/v1/intake/{name}"): PUBLIC,
    ("GET", "/v1/preorders"): _WATCHERS,
    ("GET", "/v1/pools"): _WATCHED_STORE,
    ("GET", "/v1/channels"): _WATCHERS,
    ("GET", "/v1/channels/{channel}/stock"): _WATCHED_SHOP,
    ("GET", "/v1/channels/{channel}/feed"): _WATCHED_SHOP,
    ("GET", "/v1/channels/{channel}/socket"): _WATCHED_SHOP,
    ("GET", "/v1/channels/{channel}/orders/feed"): _WATCHED_SHOP,
    ("POST", "/v1/feeds/tickets"): _WATCHED_SHOP,
    ("GET", "/v1/whoami"): frozenset(ROLES),
    ("GET", "/v1/policies/{channel}"): _WATCHERS,
    ("PUT", "/v1/policies/{channel}"): _OPERATORS,
    ("DELETE", "/v1/policies/{channel}"): _OPERATORS,
    ("GET", "/v1/policies/{channel}/{sku}"): _WATCHERS,
    ("PUT", "/v1/policies/{channel}/{sku}"): _OPERATORS,
    ("DELETE", "/v1/policies/{channel}/{sku}"): _OPERATORS,
    ("POST", "/v1/policies/{channel}/preview"): _APPROVERS,
    ("GET", "/v1/policy_history/{channel}"): _WATCHERS,
    ("POST", "/v1/policies/{channel}/rollback"): _OPERATORS,
    ("POST", "/v1/policies/{channel}/request"): _OPERATORS,
    ("POST", "/v1/policies/{channel}/{sku}/preview"): _APPROVERS,
    ("GET", "/v1/policy_history/{channel}/{sku}"): _WATCHERS,
    ("POST", "/v1/policies/{channel}/{sku}/rollback"): _OPERATORS,
    ("POST", "/v1/policies/{channel}/{sku}/request"): _OPERATORS,
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): frozenset((OPERATOR, METRICS)),
    ("GET", "/"): PUBLIC,
    ("GET", "/board/{path}"): PUBLIC,
    ("GET", "/problems/{code}"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
    ("GET", "/asyncapi.json"): PUBLIC,
}
# Browsers cannot send a header with these: a ticket in the query replaces the key.
TICKETED = frozenset(path for _, path in ROLES_OF if path.endswith(("/feed", "/socket")))
# A key that is limited to warehouses has to name one of them in the query.
WAREHOUSE_IN_QUERY = frozenset(("/v1/expected", "/v1/pools"))


def roles_of(method: str, path: str) -> Roles:
    """The roles that may call a route, or `PUBLIC`."""
    return ROLES_OF.get((method, path), _OPERATORS)
