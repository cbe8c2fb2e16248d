"""The comparison of answers with the document finds what is not described."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.described import described

PROBLEM = "application/problem+json"


def problem(status: int, code: str) -> dict[str, Any]:
    return {"type": f"/problems/{code}", "title": code, "status": status, "detail": "x", "code": code}


def test_what_is_described_passes() -> None:
    described().check("GET", "/v1/channels", 200, "application/json", {"items": ["jd"]})
    described().check("GET", "/v1/orders/o%2F1", 404, PROBLEM, problem(404, "unknown_order"))
    described().check("DELETE", "/v1/policies/jd", 204, "application/octet-stream", None)
    described().check("GET", "/nowhere", 404, PROBLEM, problem(404, "not_found"))


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (500, PROBLEM, problem(500, "internal_error")),
        (200, "text/html", {"items": []}),
        (200, "application/json", {"items": [1]}),
        (200, "application/json", {"items": [], "more": 1}),
        (401, PROBLEM, problem(401, "bad_signature")),
    ],
    ids=["status", "type", "body", "unknown field", "code"],
)
def test_what_is_not_described_fails(status: int, media_type: str, body: Any) -> None:
    with pytest.raises(AssertionError):
        described().check("GET", "/v1/channels", status, media_type, body)
