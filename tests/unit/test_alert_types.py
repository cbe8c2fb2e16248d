"""The table of alert types against what the code raises."""

from __future__ import annotations

import re
from pathlib import Path

from stocktide.streams.contract.alert_types import ALERT_TYPES, alert_type

ROOT = Path(__file__).parents[2]
# `alerts.add('…'`, `system_alert("…"`, `type = "…"` beside a document of an alert, and the types that variables hold.
RAISED = (
    re.compile(r"alerts\.add\('(\w+)'"),
    re.compile(r"\[WAREHOUSE\.\w+\] = '(\w+_negative)'"),
    re.compile(r"pack\(\{type = '(\w+)'"),
    re.compile(r"system_alert\(\s*\"(\w+)\""),
    re.compile(r"PublishedAlert\(\n(?:.*\n)?\s+type=\"(\w+)\""),
    re.compile(r"make_alert_row\(\"(\w+)\""),
    re.compile(r"alert_about\(\w+, '(\w+)'\)"),
)


def test_the_table_has_every_type_that_is_raised_and_no_other() -> None:
    folders = ("tables", "agents", "stocktide", "api")
    files = [path for folder in folders for pattern in ("*.lua", "*.py") for path in (ROOT / folder).rglob(pattern)]
    found = {name for path in files for pattern in RAISED for name in pattern.findall(path.read_text())}
    assert found == set(ALERT_TYPES)


def test_a_type_of_a_newer_version_is_a_warning_under_its_own_name() -> None:
    found = alert_type("brand_new")
    assert (found.severity, found.name("en"), found.name("zh")) == ("warning", "brand_new", "brand_new")
