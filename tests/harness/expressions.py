"""The expressions of `deploy/` and what a process exposes, for tests that compare them.

In: rules and dashboards; answers of `/metrics`. Out: the metrics and labels that an expression names and nobody has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
# What Grafana puts there.
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h"}
# Prometheus adds these to every sample, and `up` to every target.
OF_THE_SCRAPE = {"job", "instance"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}

# The labels of each metric with the values that were seen.
Exposed = Mapping[str, Mapping[str, set[str]]]


def all_expressions() -> list[tuple[str, str]]:
    """Each expression with its place."""
    rules = [
        (f"{RULES.name}: {rule['alert']}", rule["expr"])
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    ]
    return rules + [
        (f"{file.name}: {panel['title']}", target["expr"])
        for file in DASHBOARDS
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]


def exposed_by(*answers: str) -> Exposed:
    """What the answers of `/metrics` declare and show."""
    exposed: dict[str, dict[str, set[str]]] = {"up": {}}
    for answer in answers:
        for family in text_string_to_metric_families(answer):
            for suffix in SUFFIXES[family.type]:
                exposed.setdefault(family.name + suffix, {})
            for sample in family.samples:
                labels = exposed.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return exposed


def unknown_names(expression: str, exposed: Exposed) -> list[str]:
    """The metrics and labels of an expression that nobody has. Raises ValueError if it cannot be parsed."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return list(_unknown(promql_parser.parse(expression), exposed))


def _unknown(node: Any, exposed: Exposed) -> Iterator[str]:
    if isinstance(node, promql_parser.VectorSelector):
        if node.name not in exposed:
            yield node.name
        known = _labels(node, exposed)
        yield from (f"{node.name}{{{each.name}}}" for each in node.matchers.matchers if each.name not in known)
        return
    named: list[str] = []
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        named = modifier.labels
    elif isinstance(node, promql_parser.BinaryExpr) and modifier is not None and modifier.matching is not None:
        named = modifier.matching.labels
    known = _labels(node, exposed)
    yield from (f"{{{name}}} of {node}" for name in named if name not in known)
    for child in _children(node):
        yield from _unknown(child, exposed)


def _labels(node: Any, exposed: Exposed) -> set[str]:
    """All labels that the metrics below a node have."""
    if isinstance(node, promql_parser.VectorSelector):
        return OF_THE_SCRAPE | set(exposed.get(node.name, {}))
    return OF_THE_SCRAPE.union(*(_labels(child, exposed) for child in _children(node)))


def _children(node: Any) -> list[Any]:
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    if isinstance(node, promql_parser.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, promql_parser.Call):
        return list(node.args)
    expression = getattr(node, "expr", None)
    return [] if expression is None else [expression]
