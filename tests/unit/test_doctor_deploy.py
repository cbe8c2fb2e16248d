"""`stocktide doctor --deploy`: what it says of a process's surroundings."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stocktide.doctor.deployment import judge_deployment
from stocktide.doctor.finding import Severity
from stocktide.doctor.process_view import FileMode, ProcessView, read_memory_max, read_process
from stocktide.settings import Settings

GIBIBYTE = 1 << 30
SETTINGS = Settings(
    host="0.0.0.0",
    data=Path("/data"),
    tls_cert="/tls/tls.crt",
    tls_key="/tls/tls.key",
    drain_seconds=20,
    worker_name="shop-stocktide-decide-0",
)
VIEW = ProcessView(
    user=10001,
    is_contained=True,
    descriptors_max=65_536,
    memory_max=GIBIBYTE,
    data_type="ext4",
    data_free=50 * GIBIBYTE,
    is_clock_synchronised=True,
    ahead_ms=-3,
    keys=FileMode("STOCKTIDE_KEYS_FILE", "/run/secrets/keys/keys.json", 0o440),
    secrets=(FileMode("STOCKTIDE_REDIS_PASSWORD_FILE", "/run/secrets/redis/password", 0o444),),
)


def troubles(settings: Settings = SETTINGS, view: ProcessView = VIEW) -> list[tuple[str, str]]:
    found = judge_deployment(settings, view)
    return [(each.severity.value, each.what) for each in found if each.severity is not Severity.GOOD]


def test_a_deployment_that_is_as_it_should_be_has_no_trouble() -> None:
    assert troubles() == []


@pytest.mark.parametrize(
    ("changed", "severity", "said"),
    [
        ({"user": 0}, "WRONG", "the user is root"),
        ({"descriptors_max": 1024}, "WRONG", "STOCKTIDE_CONNECTIONS_MAX=12000 needs 12256"),
        ({"memory_max": None}, "note", "memory is not limited"),
        ({"memory_max": 64 << 20}, "WRONG", "memory is limited to 64 MiB"),
        ({"data_trouble": "Read-only file system"}, "WRONG", "cannot be written: Read-only file system"),
        ({"data_type": "tmpfs"}, "WRONG", "is memory (tmpfs)"),
        ({"data_type": "overlay"}, "note", "in the container's own layer"),
        ({"data_free": 1}, "note", "0 MiB left"),
        ({"is_clock_synchronised": False}, "note", "clock as synchronised"),
        ({"ahead_ms": 800}, "note", "800 ms ahead of that of Redis"),
        ({"ahead_ms": -90_000}, "WRONG", "90000 ms behind that of Redis"),
        ({"keys": FileMode("K", "/data/keys.json", 0o604)}, "WRONG", "for everybody to read (mode 0604)"),
        ({"keys": FileMode("K", "/data/keys.json", 0o620)}, "WRONG", "may be changed by others (mode 0620)"),
        ({"keys": FileMode("K", "/x", trouble="Permission denied")}, "note", "would refuse every call"),
        ({"secrets": (FileMode("S", "/etc/password", 0o644),)}, "note", "S=/etc/password is for everybody"),
        (
            {"secrets": (FileMode("S", "/etc/password", trouble="gone"),)},
            "WRONG",
            "S=/etc/password cannot be read: gone",
        ),
    ],
)
def test_each_trouble_of_the_process_is_said(changed: dict[str, Any], severity: str, said: str) -> None:
    ((found, what),) = troubles(view=replace(VIEW, **changed))
    assert (found, said in what) == (severity, True), what


@pytest.mark.parametrize(
    ("changed", "severity", "said"),
    [
        ({"host": "127.0.0.1"}, "WRONG", "from inside this container only"),
        ({"tls_cert": "", "tls_key": ""}, "note", "serves without TLS"),
        ({"drain_seconds": 0}, "note", "STOCKTIDE_DRAIN_SECONDS is 0"),
        ({"worker_name": "worker"}, "note", "each further one needs its own"),
        ({"worker_name": "shop-stocktide-7d9c8bd5f4-x2x9z"}, "WRONG", "changes with each start"),
        ({"worker_name": "3f2a9b1c77de"}, "WRONG", "changes with each start"),
    ],
)
def test_each_trouble_of_the_settings_is_said(changed: dict[str, Any], severity: str, said: str) -> None:
    ((found, what),) = troubles(replace(SETTINGS, **changed))
    assert (found, said in what) == (severity, True), what


@pytest.mark.parametrize("name", ["worker-1", "warehouse-east-1", "cold-warehouse-sales", "shop-stocktide-all-12"])
def test_a_name_that_stays_is_good(name: str) -> None:
    assert troubles(replace(SETTINGS, worker_name=name)) == []


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "1073741824\n", GIBIBYTE),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "536870912\n", GIBIBYTE // 2),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("other", "1", None),
    ],
)
def test_the_limit_of_a_control_group_of_either_version_is_read(
    tmp_path: Path, file: str, text: str, limit: int | None
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert read_memory_max(tmp_path) == limit


async def test_this_process_is_read_as_it_is(tmp_path: Path) -> None:
    keys, password = tmp_path / "access" / "keys.json", tmp_path / "password"
    keys.parent.mkdir()
    for file in (keys, password):
        file.write_text("{}")
        file.chmod(0o600)
    settings = Settings(data=tmp_path, redis="redis://127.0.0.1:1/0", redis_password_file=str(password))
    view = await read_process(settings)
    assert (view.user, view.data_trouble, view.ahead_ms) == (os.geteuid(), None, None)
    assert view.data_type and view.data_free
    assert view.descriptors_max is None or view.descriptors_max > 0
    assert view.keys == FileMode("STOCKTIDE_KEYS_FILE", str(keys), 0o600)
    assert view.secrets == (FileMode("STOCKTIDE_REDIS_PASSWORD_FILE", str(password), 0o600),)
    alerts, slack = tmp_path / "alerts.yaml", tmp_path / "slack.url"
    alerts.write_text("receivers: [{name: duty, kind: slack, url_file: slack.url}]\nroutes: []\n")
    slack.write_text("https://hooks.slack.com/HUSH")
    alerts.chmod(0o644)
    slack.chmod(0o604)
    alerted = replace(settings, alerts_file=str(alerts))
    assert (await read_process(alerted)).secrets[1:] == (
        FileMode("STOCKTIDE_ALERTS_FILE", str(alerts), 0o644),
        FileMode("a file of STOCKTIDE_ALERTS_FILE", str(slack), 0o604),
    )
    alerts.write_text("receivers: []")  # a finding of the doctor already
    assert len((await read_process(alerted)).secrets) == 1
    without = await read_process(replace(settings, data=tmp_path / "none"))
    assert without.data_trouble == "No such file or directory"
