"""`stocktide loadtest` on the command line, and the requests that it makes from events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from stocktide.command_line import cli
from stocktide.discovery import TargetSystem
from stocktide.errors import CommandError
from stocktide.loadtest.client.http import request_of
from stocktide.ops import loadtest as front
from stocktide.settings import Settings
from stocktide.up.run_file import SystemDescription
from tests.unit.fake_system import ready_on


def test_the_help_names_every_shape_and_the_testers_command_is_hidden() -> None:
    output = CliRunner().invoke(cli, ["loadtest", "--help"]).output
    for part in ("[steady|ramp|spike|wave|file|search]", "--subscribers", "compare"):
        assert part in output
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert "loadtest " in listed
    assert "loadtest-tester" not in listed


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "find_spec", lambda name: None if name == "hdrh" else object())
    with pytest.raises(CommandError, match=r"pip install 'stocktide\[loadtest\]'"):
        front._require_extra()


def test_only_processes_of_a_system_on_this_machine_are_looked_at() -> None:
    settings = Settings()
    here = TargetSystem(settings, "http://127.0.0.1:8080", SystemDescription(Path("data"), 4, ready_on(8080)), "")
    assert front._pids(here) == {"api": 11, "worker": 12}
    assert front._pids(TargetSystem(settings, "http://shop.example:8080", None, "")) == {}


@pytest.mark.parametrize(
    ("kind", "event", "expected"),
    [
        ("order.placed", {"order_id": "a/1", "lines": []}, ("POST", "/v1/orders", {"order_id": "a/1", "lines": []})),
        (
            "order.paid",
            {"order_id": "a/1", "id": "p", "occurred_at": "now"},
            ("POST", "/v1/orders/a%2F1/pay", {"id": "p"}),
        ),
        ("order.cancelled", {"order_id": "a", "id": "c"}, ("POST", "/v1/orders/a/cancel", {"id": "c"})),
        (
            "policy.put",
            {"channel": "jd", "sku": "A B", "policy": {"buffer": 2}},
            ("PUT", "/v1/policies/jd/A%20B", {"buffer": 2}),
        ),
        ("stock.received", {"id": "r"}, ("POST", "/v1/movements", {"type": "stock.received", "id": "r"})),
        ("order.shipped", {"id": "s"}, ("POST", "/v1/events", {"type": "order.shipped", "id": "s"})),
    ],
)
def test_each_event_has_its_request(kind: str, event: dict[str, Any], expected: tuple[str, str, Any]) -> None:
    method, path, body, content = request_of(kind, event)
    assert (method, path, orjson.loads(body)) == expected
    assert content == ("application/x-ndjson" if path == "/v1/events" else "application/json")
