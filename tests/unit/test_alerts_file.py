"""The file of alerts: what is wrong is named with its place, and no secret is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from stocktide.agents.notify.config import AlertsConfig, AlertsFileError, read_alerts_file
from stocktide.alerts_settings import read_alerts
from stocktide.command_line import cli
from stocktide.settings import Settings
from stocktide.streams.contract.alert_types import ALERT_TYPES

PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"
SECRETS = {
    "STOCKTIDE_ALERTS_DUTY_SECRET": "SEC1",
    "STOCKTIDE_ALERTS_SLACK_URL": "https://hooks.slack.com/services/T/B/X",
}
GOOD = """
receivers:
  - {name: duty, kind: dingtalk, url: "https://oapi.dingtalk.com/robot/send?access_token=HUSH"}
routes:
  - {receiver: duty, quiet: [night]}
quiet_times:
  - {name: night, from: 22:00, to: 07:00, days: [mon, sun]}
"""


def read(text: str, folder: Path, environ: dict[str, str] | None = None) -> AlertsConfig:
    file = folder / "alerts.yaml"
    file.write_text(text)
    return read_alerts_file(file, environ or {}, ())


def test_a_short_file_has_the_usual_times(tmp_path: Path) -> None:
    config = read(GOOD, tmp_path)
    (route,) = config.routes
    assert (route.group_by, route.group_wait, route.group_interval, route.repeat_interval) == (
        ("type", "channel"),
        30,
        300,
        14_400,
    )
    (night,) = route.quiet
    assert (night.begins, night.ends, night.days) == (22 * 60, 7 * 60, {0, 6}), "YAML reads 22:00 as a number"
    assert "HUSH" not in repr(config)


def test_the_example_of_the_page_is_a_file_and_its_table_has_every_type(tmp_path: Path) -> None:
    (tmp_path / "webhook.secret").write_text("whsec_" + "A" * 43 + "=")
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    config = read(example, tmp_path, SECRETS)
    assert {each.kind for each in config.receivers} == {"dingtalk", "wecom", "feishu", "slack", "webhook"}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {name: kind.severity for name, kind in ALERT_TYPES.items()}


@pytest.mark.parametrize(
    ("written", "instead", "place"),
    [
        (
            "kind: dingtalk",
            "kind: pigeon",
            "receivers[0].kind: Invalid enum value 'pigeon': one of dingtalk, feishu, slack, webhook, wecom",
        ),
        ("kind: dingtalk", "kind: dingtalk, secret: SEC", "receivers[0]: Object contains unknown field `secret`"),
        ("https://oapi", "ftp://oapi", "receivers[0].url: it has to be http"),
        ("https://oapi.dingtalk.com/", "http://10.0.0.1/", "receivers[0].url: its address is not public"),
        ('url: "https', 'url_file: u, url: "https', "receivers[0].url: it is given in more than one way"),
        ("kind: dingtalk", "kind: dingtalk, secret_file: none", "receivers[0].secret_file: none cannot be read"),
        (
            "kind: dingtalk",
            "kind: dingtalk, secret_variable: ABSENT",
            "receivers[0].secret_variable: ABSENT is not set",
        ),
        (
            "kind: dingtalk",
            "kind: slack, secret_variable: SET",
            "receivers[0].secret_variable: a robot of slack has none",
        ),
        ("kind: dingtalk", "kind: webhook", "receivers[0]: a webhook needs `secret_file`"),
        (
            "kind: dingtalk",
            "kind: webhook, secret_variable: SET",
            "receivers[0].secret_variable: it has to be `whsec_`",
        ),
        ("receiver: duty", "receiver: nobody", "routes[0].receiver: there is no receiver 'nobody'"),
        ("receiver: duty", "receiver: duty, match: {types: [low]}", "routes[0].match.types[0]: there is no type 'low'"),
        ("receiver: duty", "receiver: duty, group_wait: soon", "routes[0].group_wait: 'soon' is no duration"),
        ("receiver: duty", "receiver: duty, group_wait: 8d", "routes[0].group_wait: 8d is more than 7 days"),
        ("receiver: duty", "receiver: duty, group_by: [colour]", "routes[0].group_by[0]: Invalid enum value 'colour'"),
        ("quiet: [night]", "quiet: [day]", "routes[0].quiet[0]: there is no quiet time 'day'"),
        ("from: 22:00", "from: 22", "quiet_times[0].from: '22' is no time of day"),
        ("from: 22:00", "from: 07:00", "quiet_times[0]: it begins when it ends"),
        ("days: [mon, sun]", "zone: Mars/Base", "quiet_times[0].zone: 'Mars/Base' is no time zone"),
        (
            "receivers:",
            "receivers:\n  - {name: duty, kind: slack, url: 'https://x'}",
            "receivers[1].name: 'duty' is taken",
        ),
        ("routes:", "routes", "line 5: while scanning a simple key, could not find expected ':'"),
        ("routes:", "language: en\nlanguage: zh\nroutes:", "line 5: the key 'language' is in line 4 already"),
        ("kind: dingtalk", "kind: dingtalk, kind: slack", "line 3: the key 'kind' is in line 3 already"),
        ("days: [mon, sun]", f"days: {'[' * 9_000}{']' * 9_000}", "line 7: while increasing flow level"),
        ("from: 22:00", "from: 2026-13-45", "month must be in 1..12"),
        ("kind: dingtalk", "kind: https://x.test/HUSH", "receivers[0].kind: Invalid enum value '(a URL)'"),
        ("receiver: duty", "receiver: 'https://x.test/?k=HUSH'", "routes[0].receiver: there is no receiver '(a URL)'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, written: str, instead: str, place: str) -> None:
    assert written in GOOD
    with pytest.raises(AlertsFileError) as caught:
        read(GOOD.replace(written, instead, 1), tmp_path, {"SET": "short"})
    message = str(caught.value)
    assert place in message and "alerts.yaml" in message and "HUSH" not in message


def test_a_file_that_is_not_there_or_too_large_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    with pytest.raises(AlertsFileError, match="No such file"):
        read_alerts(Settings(alerts_file=str(tmp_path / "none.yaml")))
    with pytest.raises(AlertsFileError, match="more than"):
        read("#" * 300_000, tmp_path)
    for written, what in (("x" * 5_000, "more than 4096"), ("http://10.0.0.1/", "its address is not public")):
        (tmp_path / "url").write_text(written)
        with pytest.raises(AlertsFileError, match=rf"receivers\[0\]\.url_file: .*{what}"):
            read("receivers: [{name: a, kind: slack, url_file: url}]\nroutes: []\n", tmp_path)
    assert read_alerts(Settings()) is None


@pytest.mark.parametrize("command", ["up", "worker"])
def test_with_a_wrong_file_nothing_starts(tmp_path: Path, command: str) -> None:
    environ = {"STOCKTIDE_ALERTS_FILE": str(tmp_path / "none.yaml"), "STOCKTIDE_DATA": str(tmp_path / "data")}
    found = CliRunner().invoke(cli, [command], env=environ)
    assert isinstance(found.exception, AlertsFileError) and not (tmp_path / "data").exists()
