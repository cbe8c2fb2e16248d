"""An error on the command line is a sentence and an exit status, never a traceback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stocktide.embedded.ports import pick_free_port
from tests.harness.process import CommandResult, run_stocktide


async def stocktide(*arguments: str, environ: Mapping[str, str] | None = None) -> CommandResult:
    """Run the command without a running system to find."""
    return await run_stocktide(*arguments, environ={"XDG_CACHE_HOME": os.devnull, **(environ or {})})


async def refused(status: int, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """The message of a command that fails."""
    done = await stocktide(*arguments, environ=environ)
    assert done.status == status and "Traceback" not in done.err, done.err
    return done.err


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_the_help_names_every_command() -> None:
    shown = (await stocktide("--help")).out
    for command in ("up", "worker", "api", "topics", "doctor", "replay", "demo"):
        assert f"\n  {command} " in shown


async def test_a_taken_port_is_named(tmp_path: Path, taken_port: int) -> None:
    message = await refused(1, "up", "--data", str(tmp_path / "data"), "--port", str(taken_port))
    assert f"port {taken_port} on 127.0.0.1 is taken" in message
    assert "--port" in message


async def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert f"the data folder {file} cannot be used: it is a file" in await refused(1, "up", "--data", str(file))
    below = str(file / "below")
    assert f"the data folder {below} cannot be used" in await refused(1, "up", "--data", below)


async def test_a_ready_file_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ready_file = tmp_path / "nowhere" / "ready.json"
    message = await refused(1, "up", "--data", str(tmp_path / "data"), "--ready-file", str(ready_file))
    assert f"the ready file {ready_file} cannot be written" in message


async def test_a_ready_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    message = await refused(1, "up", "--data", str(tmp_path / "data"), "--ready-file", str(tmp_path))
    assert f"the ready file {tmp_path} cannot be written" in message


async def test_a_start_that_fails_leaves_the_ready_file_of_another_system(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    ready_file.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        await refused(1, "up", "--data", str(tmp_path / "data"), "--port", port, "--ready-file", str(ready_file))
    assert ready_file.read_text() == "{}"


async def test_a_bad_setting_is_named() -> None:
    message = await refused(1, "doctor", environ={"STOCKTIDE_PARTITIONS": "many"})
    assert "STOCKTIDE_PARTITIONS is 'many': it has to be a whole number from 1 to 256" in message
    assert "STOCKTIDE_LOG_LEVEL is 'LOUD'" in await refused(1, "up", environ={"STOCKTIDE_LOG_LEVEL": "LOUD"})
    assert "STOCKTIDE_APP_ID is 'a b'" in await refused(1, "up", environ={"STOCKTIDE_APP_ID": "a b"})
    message = await refused(1, "worker", environ={"STOCKTIDE_SHARDS": "2"})
    assert "STOCKTIDE_SHARDS is 2: this version runs one shard" in message


@pytest.mark.parametrize("command", ["worker", "api"])
async def test_a_kafka_that_is_not_there_is_named(command: str) -> None:
    address = f"127.0.0.1:{pick_free_port()}"
    assert f"no Kafka answers at {address}" in await refused(1, command, environ={"STOCKTIDE_KAFKA": address})


async def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    message = await refused(1, "up", "--data", str(tmp_path), "--port", "0", "--kafka", "nonsense")
    assert "the Kafka address 'nonsense' is not HOST:PORT" in message


async def test_a_redis_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    port = pick_free_port()
    url = f"redis://user:secret@127.0.0.1:{port}/0"
    done = await stocktide("doctor", environ={"STOCKTIDE_REDIS": url, "STOCKTIDE_KAFKA": f"127.0.0.1:{port}"})
    assert done.status == 1
    assert f"no Redis answers at redis://user:***@127.0.0.1:{port}/0" in done.out
    assert f"no Kafka answers at 127.0.0.1:{port}" in done.out
    assert "secret" not in done.out + done.err


async def test_a_url_that_is_none_is_named(tmp_path: Path) -> None:
    done = await stocktide("doctor", environ={"STOCKTIDE_REDIS": "nonsense", "STOCKTIDE_KAFKA": "127.0.0.1:1"})
    assert done.status == 1
    assert "nonsense is no Redis URL" in done.out


async def test_options_that_cannot_be_are_usage_errors(tmp_path: Path) -> None:
    assert "--port" in await refused(2, "up", "--port", "70000")
    assert "neither a positive number nor max" in await refused(2, "replay", "x.csv", "--speed", "fast")
    assert "--opening" in await refused(2, "replay", "x.csv", "--opening", "0")
    assert "No such command" in await refused(2, "sell")


async def test_a_file_that_is_missing_is_named() -> None:
    assert "nowhere.csv" in await refused(2, "replay", "nowhere.csv")


async def test_a_misspelt_setting_ends_the_command_and_any_other_one_is_a_warning() -> None:
    meant = await refused(1, "up", environ={"STOCKTIDE_PRT": "8081"})
    assert "STOCKTIDE_PRT is not a setting of Stocktide: is STOCKTIDE_PORT meant?" in meant
    warned = await refused(2, "up", "--port", "x", environ={"STOCKTIDE_BANNER": "1"})
    assert "STOCKTIDE_BANNER is not a setting" in warned
