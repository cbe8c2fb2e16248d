"""An error on the command line is a sentence and an exit status, never a traceback.

What ends before a server is asked runs in this process, as `main()`, where a traceback would be an exception; some
commands run as processes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stocktide.__main__ import main
from stocktide.embedded.ports import pick_free_port
from tests.harness.process import CommandResult, run_stocktide

# A command that imports and ends, on a busy machine.
SECONDS_MAX = 60.0


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


REFUSED: list[tuple[int, str, dict[str, str], str]] = [
    (1, "up --data {tmp}/data --port {taken}", {}, "is taken, the API cannot listen there: choose another with --port"),
    (1, "up --data {tmp}/file", {}, "the data folder {tmp}/file cannot be used: it is a file"),
    (1, "up --data {tmp}/file/below", {}, "the data folder {tmp}/file/below cannot be used"),
    (1, "up --data {tmp}/data --ready-file {tmp}/no/ready", {}, "the ready file {tmp}/no/ready cannot be written"),
    (1, "up --data {tmp}/data --ready-file {tmp}", {}, "the ready file {tmp} cannot be written"),
    (1, "up --data {tmp} --port 0 --kafka nonsense", {}, "the Kafka address 'nonsense' is not HOST:PORT"),
    (2, "doctor", {"PARTITIONS": "many"}, "STOCKTIDE_PARTITIONS is 'many': it has to be a whole number from 1 to 256"),
    (2, "up", {"LOG_LEVEL": "LOUD"}, "STOCKTIDE_LOG_LEVEL is 'LOUD'"),
    (2, "up", {"APP_ID": "a b"}, "STOCKTIDE_APP_ID is 'a b'"),
    (2, "worker", {"SHARDS": "2"}, "STOCKTIDE_SHARDS is 2: this version runs one shard"),
    (2, "up", {"PRT": "8081"}, "STOCKTIDE_PRT is not a setting of Stocktide: is STOCKTIDE_PORT meant?"),
    (2, "api", {"WEBHOOK_ALLOW": "junk"}, "STOCKTIDE_WEBHOOK_ALLOW is 'junk'"),
    (2, "up --data {tmp}/data", {"MAPPINGS": "{tmp}"}, "{tmp}/own.yaml: line 2: the key 'name' is in line 1 already"),
    (2, "worker", {"MAPPINGS": "{tmp}"}, "{tmp}/own.yaml: line 2: the key 'name' is in line 1 already"),
    (2, "api", {"MAPPINGS": "{tmp}"}, "{tmp}/own.yaml: line 2: the key 'name' is in line 1 already"),
    (2, "api", {"TLS_CERT": "{tmp}/file", "TLS_KEY": "{tmp}/file"}, "STOCKTIDE_TLS_CERT is {tmp}/file and"),
    (2, "up --data {tmp}/data", {"TLS_CERT": "{tmp}/file", "TLS_KEY": "{tmp}/file"}, "STOCKTIDE_TLS_CERT is {tmp}/f"),
    (2, "api", {"KEYS_FILE": "{tmp}/own.yaml"}, "the file of keys {tmp}/own.yaml cannot be read"),
    (2, "up --port x", {"BANNER": "1"}, "STOCKTIDE_BANNER is not a setting"),
    (2, "up --port 70000", {}, "--port"),
    (2, "replay x.csv --speed fast", {}, "neither a positive number nor max"),
    (2, "replay x.csv --opening 0", {}, "--opening"),
    (2, "replay nowhere.csv", {}, "nowhere.csv"),
    (2, "sell", {}, "No such command"),
]


@pytest.mark.parametrize(("status", "command", "environ", "message"), REFUSED)
def test_what_cannot_be_is_refused_with_its_name(
    status: int,
    command: str,
    environ: dict[str, str],
    message: str,
    tmp_path: Path,
    taken_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "own.yaml").write_text("name: own\nname: other\n")
    named = {"tmp": tmp_path, "taken": taken_port}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    for name in [name for name in os.environ if name.startswith("STOCKTIDE_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(f"STOCKTIDE_{name}", value.format(**named))
    monkeypatch.setattr(sys, "argv", ["stocktide", *command.format(**named).split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert message.format(**named) in capsys.readouterr().err
    assert status == 1 or not (tmp_path / "data").exists()


# Sends itself SIGINT when the module that the first argument names is imported; the rest is the command.
_INTERRUPTED = """
import importlib.abc, os, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.meta_path.insert(0, Interrupting())
module = sys.argv.pop(1)
from stocktide.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "stocktide.settings", "stocktide.ops.topics", "aiokafka"])
def test_ctrl_c_while_modules_are_imported_ends_a_command_quietly(module: str) -> None:
    command = [sys.executable, "-c", _INTERRUPTED, module, "topics"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert (ended.returncode, ended.stderr.strip(), ended.stdout) == (130, "", "")


@pytest.mark.parametrize("command", ["worker", "api"])
async def test_a_process_without_a_kafka_is_refused(command: str) -> None:
    address = f"127.0.0.1:{pick_free_port()}"
    assert f"no Kafka answers at {address}" in await refused(1, command, environ={"STOCKTIDE_KAFKA": address})


async def test_a_start_that_fails_leaves_the_ready_file_of_another_system(tmp_path: Path, taken_port: int) -> None:
    ready_file = tmp_path / "ready.json"
    ready_file.write_text("{}")
    folders = ("--data", str(tmp_path / "data"), "--ready-file", str(ready_file))
    await refused(1, "up", *folders, "--port", str(taken_port))
    assert ready_file.read_text() == "{}"


async def test_a_redis_that_is_not_there_is_named_without_its_password() -> None:
    port = pick_free_port()
    url = f"redis://user:secret@127.0.0.1:{port}/0"
    done = await stocktide(
        "doctor", "--deploy", environ={"STOCKTIDE_REDIS": url, "STOCKTIDE_KAFKA": f"127.0.0.1:{port}"}
    )
    assert done.status == 1
    assert f"no Redis answers at redis://user:***@127.0.0.1:{port}/0" in done.out
    assert f"no Kafka answers at 127.0.0.1:{port}" in done.out
    assert "STOCKTIDE_WORKER_NAME is the default" in done.out
    assert "secret" not in done.out + done.err


async def test_a_url_that_is_none_is_named() -> None:
    done = await stocktide(
        "doctor", "--deploy", environ={"STOCKTIDE_REDIS": "nonsense", "STOCKTIDE_KAFKA": "127.0.0.1:1"}
    )
    assert done.status == 1
    assert "nonsense is no Redis URL" in done.out
