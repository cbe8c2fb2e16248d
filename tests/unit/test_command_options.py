"""Every `--option` that an error message names is an option of that command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stocktide import wait_for_servers
from stocktide.command_line import cli
from stocktide.embedded.ports import pick_free_port
from tests.unit.fake_system import ready_on, standing

# The arguments with which a command gets as far as looking for its system.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "backup": ("backup",),
    "dead-letters drop": ("--all",),
    "dead-letters retry": ("--all",),
    "dead-letters show": ("orders/0/0",),
    "explain": ("A",),
    "loadtest": ("--no-live", "--seconds", "1"),
    "loadtest run": ("--no-live", "--seconds", "1"),
    "mapping replay": ("shopify",),
    "repair": ("--plan",),
    "replay": ("orders.csv",),
    "restore": ("backup",),
}
# These need no system, read files first, or start their own servers.
WITHOUT_A_SYSTEM = (
    *("loadtest compare", "loadtest judge", "loadtest report", "mapping test"),
    *("loadtest-tester", "demo", "up", "worker", "api"),
    *("alerts check", "alerts test"),
    *("keys first", "keys add", "keys list", "keys rotate", "keys revoke"),
)
# Usage errors, whatever runs.
MISUSED: list[tuple[str, ...]] = [
    ("rebuild", "--check"),
    ("rebuild", "--redis", "redis://r"),
    ("repair",),
    ("repair", "--plan", "--apply"),
    ("repair", "--plan", "--actor", ""),
    ("explain", "A", "--at", "7", "--since", "2h"),
    ("dead-letters", "retry"),
    ("dead-letters", "drop", "orders/0/0", "--all"),
    ("dead-letters", "show", "nowhere"),
    ("up", "--port", "x"),
    ("replay", "orders.csv", "--speed", "fast"),
]


def commands(group: click.Group = cli, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is not only a group, by its full name."""
    for name, command in group.commands.items():
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


COMMANDS = dict(commands())
ASKING = sorted(set(COMMANDS) - set(WITHOUT_A_SYSTEM))


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait for servers, and no running system of this machine."""
    monkeypatch.setattr(wait_for_servers, "REACH_SECONDS_MAX", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def options_of(name: str) -> set[str]:
    return {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)} | {"--help"}


def failure_of(*arguments: str) -> str:
    """All output of a failing command."""
    done = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=True)
    assert done.exit_code != 0 or done.exception is not None, arguments
    message = done.exception.format_message() if isinstance(done.exception, click.ClickException) else done.exception
    return f"{done.output}\n{message}"


def check(name: str, message: str) -> None:
    """Every option that the message names belongs to this command, or to the one that it quotes."""
    for other in re.findall(r"`stocktide ([a-z][^`]*)`", message):
        words = other.split()
        named = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        assert set(re.findall(r"--[a-z-]+", other)) <= options_of(named), message
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"`[^`]*`", "", message)):
        assert option in options_of(name), f"{name} offers {option}: {message}"


@pytest.mark.parametrize("name", ASKING)
def test_every_command_that_uses_a_system_has_options_to_name_it(name: str) -> None:
    assert {"--data", "--api", "--kafka", "--redis", "--app-id"} <= options_of(name)


@pytest.mark.parametrize("name", ASKING)
def test_with_two_systems_every_command_lists_them_and_offers_what_it_has(name: str, tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)) as a, standing(tmp_path / "b", ready_on(22000)) as b:
        message = failure_of(*name.split(), *ARGUMENTS.get(name, ()))
    assert "2 systems run here" in message and f"--data {a}" in message and f"--data {b}" in message
    check(name, message)


@pytest.mark.parametrize("name", ASKING)
def test_a_server_that_does_not_answer_is_reported_with_options_of_the_command(name: str, tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(pick_free_port() - 1)) as a:
        message = failure_of(*name.split(), *ARGUMENTS.get(name, ()), "--data", str(a))
        check(name, message)
        assert "systems run here" not in message
    check(name, failure_of(*name.split(), *ARGUMENTS.get(name, ()), "--data", str(a)))


@pytest.mark.parametrize("name", ["up", "worker", "api"])
def test_an_error_names_variables_of_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{pick_free_port()}"
    monkeypatch.setenv("STOCKTIDE_KAFKA", address)
    monkeypatch.setenv("STOCKTIDE_REDIS", f"redis://{address}")
    message = failure_of(name)
    assert f"no Kafka answers at {address}" in message and "STOCKTIDE_KAFKA" in message
    assert ("--kafka" in message) is (name == "up")
    assert f"no Redis answers at redis://{address}: start it" in message
    check(name, message)


def test_the_demo_which_has_no_option_for_a_server_offers_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKTIDE_KAFKA_SECURITY", "SSL")
    message = failure_of("demo", "--port", "0")
    assert "leave the variable out" in message
    check("demo", message)


@pytest.mark.parametrize("arguments", MISUSED, ids=" ".join)
def test_a_command_that_is_misused_offers_what_it_has(arguments: tuple[str, ...]) -> None:
    name = " ".join(arguments[:2]) if " ".join(arguments[:2]) in COMMANDS else arguments[0]
    check(name, failure_of(*arguments))


def test_the_redis_of_a_drill_is_not_taken_for_the_one_in_use(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)):
        message = failure_of("rebuild", "--check", "--redis", f"redis://127.0.0.1:{pick_free_port()}/0")
    assert "rebuild --check changes this system" in message
    check("rebuild", message)


@pytest.mark.parametrize(
    "arguments",
    [
        ("rebuild",),
        ("rebuild", "--force"),
        ("repair", "--apply"),
        ("topics", "--create"),
        ("dead-letters", "retry", "--all", "--yes"),
        ("dead-letters", "drop", "--all", "--yes"),
        ("replay", "orders.csv"),
        ("loadtest", "--no-live", "--seconds", "1"),
        ("loadtest", "run", "--no-live", "--seconds", "1"),
    ],
    ids=" ".join,
)
def test_a_command_that_changes_a_system_says_first_which_one(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(pick_free_port(), "shop")) as a:
        message = failure_of(*arguments)
    first = message.splitlines()
    assert "changes this system" in first[0]
    assert first[1:3] == [f"  data    {a}", "  app id  shop"]
    assert "nothing was named" in message


@pytest.mark.parametrize("arguments", [("audit",), ("repair", "--plan"), ("topics",), ("doctor",)], ids=" ".join)
def test_a_command_that_changes_nothing_does_not_say_so(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(pick_free_port())):
        assert "changes this system" not in failure_of(*arguments)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", ["", "dead-letters", "loadtest"])
def test_no_command_is_cut_short_in_the_help(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    listed = CliRunner().invoke(cli, [*name.split(), "--help"]).output.split("\nCommands:\n")[1]
    assert listed.strip() and "..." not in listed
    assert max(map(len, listed.splitlines())) <= width


def test_every_command_and_option_has_a_help() -> None:
    for name, command in COMMANDS.items():
        assert command.help, name
        for each in command.params:
            assert isinstance(each, click.Argument) or (isinstance(each, click.Option) and each.help), (name, each)
