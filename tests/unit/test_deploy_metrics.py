"""The rules and dashboards of `deploy/`, without a running system."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from stocktide.streams.topics import TOPICS
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.up import prometheus
from tests.harness.expressions import DASHBOARDS, DEPLOY, RULES, all_expressions, unknown_names
from tests.packages import needs_promtool

OPERATIONS = DEPLOY.with_name("docs") / "operations.md"
EXPOSED = {"stocktide_x_total": {"outcome": {"ok"}}, "up": {}}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_promtool_finds_nothing_wrong_and_each_rule_tells_what_its_test_says() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES.name)
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yaml")
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yaml")


def test_the_rules_of_up_are_those_of_deploy() -> None:
    """Two files: neither an image without `deploy/` nor a volume of `deploy/` alone may hold a link into nothing."""
    assert (Path(prometheus.__file__).with_name("rules.yaml")).read_bytes() == RULES.read_bytes()


def test_each_rule_has_a_test() -> None:
    tested = (DEPLOY / "prometheus" / "rules_test.yaml").read_text()
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules if rule["alert"] not in tested] == []
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}


def test_each_rule_has_a_row_that_says_what_to_do() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    rows = re.findall(r"^\| `(Stocktide\w+)` \((\w+)\) \| .+ \| .+ \|$", OPERATIONS.read_text(), re.M)
    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in rules]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_each_panel_uses_the_variable_of_the_data_source_and_lies_in_the_grid(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    assert [each["type"] for each in dashboard["templating"]["list"]] == ["datasource"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])} == {
            "${datasource}"
        }
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not own & cells, panel["title"]
        cells |= own


def test_the_values_that_expressions_name_are_outcomes_and_topics() -> None:
    known = {
        "outcome": {outcome.value for outcome in Outcome} | {"ok", "failed"},
        "topic": {topic.name for topic in TOPICS},
    }
    for place, expression in all_expressions():
        for label, values in re.findall(r'\b(outcome|topic)=~?"([^"]+)"', expression):
            assert set(values.split("|")) <= known[label], place


def test_a_name_that_nobody_has_is_found_wherever_it_stands() -> None:
    assert unknown_names('sum by (outcome) (rate(stocktide_x_total{outcome="ok", job="a"}[5m])) / 2', EXPOSED) == []
    assert unknown_names("up + stocktide_y", EXPOSED) == ["stocktide_y"]
    assert unknown_names('rate(stocktide_x_total{reason="no"}[$__rate_interval])', EXPOSED) == [
        "stocktide_x_total{reason}"
    ]
    assert len(unknown_names("sum by (sku) (stocktide_x_total)", EXPOSED)) == 1
    assert len(unknown_names("up / on (sku) stocktide_x_total", EXPOSED)) == 1
    with pytest.raises(ValueError):
        unknown_names("sum(", EXPOSED)
