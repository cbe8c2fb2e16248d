"""Problem documents, bodies and policies, without a server."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import web

from stocktide.api import problems, requests
from stocktide.api.handlers.policy_body import PolicyBody, effective_view, validate_policy
from stocktide.streams.contract.events import Malformed, decode_with
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome

POLICY = msgspec.json.Decoder(PolicyBody)


def document(response: web.Response) -> dict[str, Any]:
    assert response.headers["Content-Type"] == "application/problem+json"
    assert isinstance(response.body, bytes)
    body: dict[str, Any] = orjson.loads(response.body)
    assert body["status"] == response.status
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    return body


@pytest.mark.parametrize("outcome", sorted(REFUSALS))
def test_every_refusal_of_the_ledger_has_a_problem_with_its_name_as_code(outcome: Outcome) -> None:
    body = document(problems.from_outcome(outcome))
    assert body["code"] == outcome
    assert body["status"] in (404, 409, 413, 422, 503)


def test_rule_40_a_time_too_far_ahead_is_422_with_its_path() -> None:
    body = document(problems.from_outcome(Outcome.OCCURRED_IN_FUTURE, "occurred_at"))
    assert (body["status"], body["errors"][0]["path"]) == (422, "occurred_at")


def test_a_refusal_at_a_path_names_it() -> None:
    body = document(problems.from_outcome(Outcome.MORE_THAN_OPEN, "lines[1].quantity"))
    assert (body["status"], body["errors"][0]["path"]) == (409, "lines[1].quantity")


def test_a_wrong_field_is_422_with_its_path() -> None:
    body = document(problems.from_malformed(Malformed("invalid_field", "Expected `int`", "lines[0].quantity")))
    assert body["status"] == 422
    assert body["errors"] == [{"path": "lines[0].quantity", "detail": "Expected `int`"}]


def test_refusals_of_the_server_itself_are_problems_too() -> None:
    response = problems.from_http_exception(web.HTTPMethodNotAllowed("PATCH", ["GET", "POST"]))
    assert document(response)["code"] == "method_not_allowed"
    assert response.headers["Allow"] == "GET,POST"


def test_a_name_in_a_path_is_held_to_the_rule_of_names() -> None:
    for name in ("a", "x" * 128, "a/b", "{brace}", "天猫"):
        assert requests.check_name("sku", name) is None
    for name in ("", "x" * 129, "a b", "a\u00a0b", "a\u200b", "\x7f"):
        refused = requests.check_name("sku", name)
        assert refused is not None, repr(name)
        assert document(refused)["errors"][0]["path"] == "sku"


def test_a_star_is_no_channel_that_sells() -> None:
    assert requests.check_channel("*") is not None
    assert requests.check_channel("tmall") is None


def read_policy(raw: bytes) -> dict[str, Any] | Malformed:
    body = decode_with(POLICY, raw)
    return body if isinstance(body, Malformed) else validate_policy(body)


def test_a_policy_keeps_what_is_set_and_leaves_out_what_is_null_or_unknown() -> None:
    raw = b'{"safety_threshold":5,"resume_threshold":null,"below_threshold":"preorder","colour":"blue"}'
    assert read_policy(raw) == {"safety_threshold": 5, "below_threshold": "preorder"}
    assert read_policy(b"{}") == {}


def test_a_resume_threshold_is_above_the_safety_threshold_of_its_document() -> None:
    refused = read_policy(b'{"safety_threshold":5,"resume_threshold":5}')
    assert isinstance(refused, Malformed)
    assert refused.path == "resume_threshold"
    assert read_policy(b'{"safety_threshold":5,"resume_threshold":6}') == {"safety_threshold": 5, "resume_threshold": 6}
    # Alone it may be too low after merging; then safety + 1 is effective.
    assert read_policy(b'{"resume_threshold":0}') == {"resume_threshold": 0}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b'{"share":1.5}', "share"),
        (b'{"share":"1"}', "share"),
        (b'{"buffer":-1}', "buffer"),
        (b'{"buffer":1.5}', "buffer"),
        (b'{"max_listed":10000000000}', "max_listed"),
        (b'{"below_threshold":"stop"}', "below_threshold"),
        (b'{"preorder_backed":1}', "preorder_backed"),
        (b'{"warehouses":[]}', "warehouses"),
        (b'{"warehouses":["SH1","a b"]}', "warehouses[1]"),
        (b'{"dwell_seconds":-1}', "dwell_seconds"),
        (b'{"purposes":["vip","v@ip"]}', "purposes[1]"),
        (b'{"purposes":["vip","vip"]}', "purposes[1]"),
        (b'{"pool_only":"yes"}', "pool_only"),
        (b'{"reroute":1}', "reroute"),
        (b'{"publish_interval_ms":60001}', "publish_interval_ms"),
        (b"[]", None),
    ],
)
def test_a_wrong_field_of_a_policy_is_named(raw: bytes, path: str | None) -> None:
    refused = read_policy(raw)
    assert isinstance(refused, Malformed)
    assert refused.path == path


def test_the_policy_in_force_shows_every_field_with_its_default() -> None:
    assert effective_view({"share": 1, "resume_threshold": 1}, 100) == {
        "share": 1.0,
        "buffer": 0,
        "max_listed": None,
        "safety_threshold": 0,
        "resume_threshold": 1,
        "below_threshold": "sell_through",
        "preorder_cap": 0,
        "preorder_backed": False,
        "dwell_seconds": 0,
        "primary": False,
        "split": True,
        "warehouses": None,
        "publish_interval_ms": 100,
    }
