"""What is wrong on the command line is a sentence and an exit status, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stocktide.embedded.ports import pick_free_port

SECONDS_MAX = 60.0


def stocktide(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with no setting of the surrounding shell and no running system to find."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOCKTIDE_")}
    return subprocess.run(
        [sys.executable, "-m", "stocktide", *arguments],
        env={**clean, "XDG_CACHE_HOME": os.devnull, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def refused(status: int, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """The message with which the command refuses."""
    done = stocktide(*arguments, environ=environ)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_help_names_every_command() -> None:
    shown = stocktide("--help").stdout
    for command in ("up", "worker", "api", "topics", "doctor", "replay", "demo"):
        assert f"\n  {command} " in shown


def test_a_taken_port_is_named(tmp_path: Path, taken_port: int) -> None:
    message = refused(1, "up", "--data", str(tmp_path / "data"), "--port", str(taken_port))
    assert f"port {taken_port} on 127.0.0.1 is taken" in message
    assert "--port" in message


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert f"the data folder {file} cannot be used: it is a file" in refused(1, "up", "--data", str(file))
    below = str(file / "below")
    assert f"the data folder {below} cannot be used" in refused(1, "up", "--data", below)


def test_a_ready_file_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ready_file = tmp_path / "nowhere" / "ready.json"
    message = refused(1, "up", "--data", str(tmp_path / "data"), "--ready-file", str(ready_file))
    assert f"the ready file {ready_file} cannot be written" in message


def test_a_ready_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    message = refused(1, "up", "--data", str(tmp_path / "data"), "--ready-file", str(tmp_path))
    assert f"the ready file {tmp_path} cannot be written" in message


def test_a_start_that_fails_leaves_the_ready_file_of_another_system(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    ready_file.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(1, "up", "--data", str(tmp_path / "data"), "--port", port, "--ready-file", str(ready_file))
    assert ready_file.read_text() == "{}"


def test_a_bad_setting_is_named() -> None:
    message = refused(1, "doctor", environ={"STOCKTIDE_PARTITIONS": "many"})
    assert "STOCKTIDE_PARTITIONS is 'many': it has to be a whole number from 1 to 256" in message
    assert "STOCKTIDE_LOG_LEVEL is 'LOUD'" in refused(1, "up", environ={"STOCKTIDE_LOG_LEVEL": "LOUD"})
    assert "STOCKTIDE_APP_ID is 'a b'" in refused(1, "up", environ={"STOCKTIDE_APP_ID": "a b"})
    message = refused(1, "worker", environ={"STOCKTIDE_SHARDS": "2"})
    assert "STOCKTIDE_SHARDS is 2: this version runs one shard" in message


@pytest.mark.parametrize("command", ["worker", "api"])
def test_a_kafka_that_is_not_there_is_named(command: str) -> None:
    address = f"127.0.0.1:{pick_free_port()}"
    assert f"no Kafka answers at {address}" in refused(1, command, environ={"STOCKTIDE_KAFKA": address})


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    message = refused(1, "up", "--data", str(tmp_path), "--port", "0", "--kafka", "nonsense")
    assert "the Kafka address 'nonsense' is not HOST:PORT" in message


def test_a_redis_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    port = pick_free_port()
    url = f"redis://user:secret@127.0.0.1:{port}/0"
    done = stocktide("doctor", environ={"STOCKTIDE_REDIS": url, "STOCKTIDE_KAFKA": f"127.0.0.1:{port}"})
    assert done.returncode == 1
    assert f"no Redis answers at redis://user:***@127.0.0.1:{port}/0" in done.stdout
    assert f"no Kafka answers at 127.0.0.1:{port}" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_a_url_that_is_none_is_named(tmp_path: Path) -> None:
    done = stocktide("doctor", environ={"STOCKTIDE_REDIS": "nonsense", "STOCKTIDE_KAFKA": "127.0.0.1:1"})
    assert done.returncode == 1
    assert "nonsense is no Redis URL" in done.stdout


def test_options_that_cannot_be_are_usage_errors(tmp_path: Path) -> None:
    assert "--port" in refused(2, "up", "--port", "70000")
    assert "neither a positive number nor max" in refused(2, "replay", "x.csv", "--speed", "fast")
    assert "--opening" in refused(2, "replay", "x.csv", "--opening", "0")
    assert "No such command" in refused(2, "sell")


def test_a_file_that_is_missing_is_named() -> None:
    done = stocktide("replay", "nowhere.csv")
    assert done.returncode != 0
    assert "nowhere.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_setting_ends_the_command_and_any_other_stranger_is_a_warning() -> None:
    assert "STOCKTIDE_PRT is not a setting of Stocktide: is STOCKTIDE_PORT meant?" in refused(
        1, "up", environ={"STOCKTIDE_PRT": "8081"}
    )
    assert (
        "STOCKTIDE_BANNER is not a setting" in stocktide("up", "--port", "x", environ={"STOCKTIDE_BANNER": "1"}).stderr
    )
