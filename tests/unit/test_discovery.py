"""The system that a command uses: a named one, or the only one that fits, or an error that lists them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stocktide.discovery import AmbiguousTarget, SystemSelector, TargetSystem, locate, same_redis
from stocktide.errors import CommandError
from stocktide.settings import Settings
from stocktide.up.run_file import RUN_FILE, RunFile, find_running_system, find_running_systems, pointers_folder
from tests.unit.fake_system import ready_on, standing


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, without running systems of this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two running systems, on ports from 21000 and from 22000."""
    with standing(tmp_path / "a", ready_on(21000)) as a, standing(tmp_path / "b", ready_on(22000, "shop")) as b:
        yield a, b


def found(named: SystemSelector | None = None, **environ: str) -> TargetSystem:
    variables = {f"STOCKTIDE_{name}": value for name, value in environ.items()}
    return locate(Settings.from_environment(variables), named or SystemSelector(), variables)


def refused(named: SystemSelector | None = None, **environ: str) -> str:
    """The message of the usage error."""
    with pytest.raises(AmbiguousTarget) as raised:
        found(named, **environ)
    assert raised.value.exit_status == 2
    return str(raised.value)


def servers(target: TargetSystem) -> tuple[str, str, str]:
    return target.settings.kafka, target.settings.redis, target.settings.app_id


A = ("127.0.0.1:21001", "redis://127.0.0.1:21002/0", "stocktide")
B = ("127.0.0.1:22001", "redis://127.0.0.1:22002/0", "shop")


def test_the_only_system_is_found_and_all_of_it(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000), partitions=8):
        target = found()
    assert servers(target) == A
    assert (target.api, target.settings.data, target.settings.partitions) == (
        "http://127.0.0.1:21000",
        tmp_path / "a",
        8,
    )
    assert "the only one that runs" in "\n".join(target.described())


def test_without_any_system_the_settings_hold() -> None:
    target = found()
    assert servers(target) == ("127.0.0.1:9092", "redis://127.0.0.1:6379/0", "stocktide")
    assert target.running is None and "defaults" in target.why
    assert servers(found(SystemSelector(kafka="k:1"), REDIS="redis://r/0")) == ("k:1", "redis://r/0", "stocktide")


def test_with_two_systems_a_command_that_names_none_fails_and_lists_them(two: tuple[Path, Path]) -> None:
    message = refused()
    for words in (f"--data {two[0]}", f"--data {two[1]}", "--api   http://127.0.0.1:21000", "shop", A[0], B[1]):
        assert words in message
    assert max(map(len, message.replace(str(two[0].parent), "/data").splitlines())) <= 80


def test_a_system_is_named_by_its_data_or_api(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert servers(found(SystemSelector(data=two[0]))) == A
    assert servers(found(SystemSelector(data=two[1] / ".." / "b"))) == B
    for url in ("http://127.0.0.1:22000", "http://localhost:22000/", "127.0.0.1:22000"):
        assert servers(found(SystemSelector(api=url))) == B
    monkeypatch.chdir(two[0].parent)
    assert servers(found(SystemSelector(data=Path("a")))) == A


def test_a_named_system_holds_whatever_the_environment_says(two: tuple[Path, Path]) -> None:
    environ = {"KAFKA": "prod:9092", "REDIS": "redis://prod/0", "APP_ID": "prod", "DATA": str(two[1])}
    assert servers(found(SystemSelector(data=two[0]), **environ)) == A
    assert servers(found(SystemSelector(api="http://127.0.0.1:21000"), **environ)) == A


def test_the_environment_names_one_of_two(two: tuple[Path, Path]) -> None:
    assert servers(found(DATA=str(two[1]))) == B
    assert servers(found(PORT="21000")) == A
    assert servers(found(APP_ID="shop")) == B
    assert servers(found(KAFKA="localhost:22001")) == ("localhost:22001", *B[1:])
    assert servers(found(SystemSelector(redis="redis://localhost:21002"))) == (A[0], "redis://localhost:21002", A[2])


def test_a_kafka_of_one_system_is_never_used_with_the_redis_of_another(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)):
        target = found(KAFKA="prod:9092")
    assert servers(target) == ("prod:9092", "redis://127.0.0.1:6379/0", "stocktide")
    assert target.running is None


def test_options_that_contradict_a_named_system_are_refused(two: tuple[Path, Path]) -> None:
    assert "--kafka k:1 is not that of the system on" in refused(SystemSelector(data=two[0], kafka="k:1"))
    assert "is not that of the system on" in refused(SystemSelector(data=two[0], api="http://127.0.0.1:22000"))
    message = refused(SystemSelector(data=two[0], redis="redis://u:secret@r/0"))
    assert "secret" not in message


def test_another_app_on_the_servers_of_a_named_system_is_not_taken_for_that_system(two: tuple[Path, Path]) -> None:
    target = found(SystemSelector(api="http://127.0.0.1:21000", app_id="other"))
    assert servers(target) == (*A[:2], "other")
    assert target.running is None and f"the servers of the system on {two[0]}" in "\n".join(target.described())


def test_what_fits_no_running_system_is_not_taken_for_the_only_one(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)) as a:
        for message in (
            refused(DATA=str(tmp_path / "b")),
            refused(PORT="8080"),
            refused(APP_ID="other"),
            refused(SystemSelector(app_id="other")),
            refused(SystemSelector(data=tmp_path / "b")),
            refused(SystemSelector(api="http://127.0.0.1:8080")),
        ):
            assert f"--data {a}" in message


def test_a_remote_api_on_the_port_of_a_local_one_is_not_the_local_system(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)):
        target = found(SystemSelector(api="https://shop.example:21000", kafka="k:1"))
        assert "no `stocktide up` of this machine serves" in refused(SystemSelector(api="http://shop.example:21000"))
    assert (target.api, target.settings.kafka, target.running) == ("https://shop.example:21000", "k:1", None)


def test_two_apps_on_the_same_servers_are_two_systems(tmp_path: Path) -> None:
    same = {"kafka": "k:1", "redis": "redis://r/0"}
    with standing(tmp_path / "a", ready_on(21000, "a", **same)), standing(tmp_path / "b", ready_on(22000, "b", **same)):
        assert "2 systems run here" in refused(KAFKA="k:1", REDIS="redis://r/0")
        assert servers(found(KAFKA="k:1", REDIS="redis://r/0", APP_ID="b"))[2] == "b"


def test_what_a_dead_system_left_behind_is_not_read(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)):
        pass
    assert (tmp_path / "a" / RUN_FILE).exists() and list(pointers_folder().iterdir())
    assert find_running_systems() == []
    assert "no `stocktide up` runs on" in refused(SystemSelector(data=tmp_path / "a"))
    with standing(tmp_path / "b", ready_on(22000)):
        assert found().settings.kafka == "127.0.0.1:22001"


def test_files_that_are_broken_or_of_another_version_stop_no_command(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)) as a:
        for content in ("", "[]", "{}", '{"api": 1}'):
            (a / RUN_FILE).write_text(content)
            assert find_running_systems() == []
        (pointers_folder() / "x.json").write_text("no json")
        (pointers_folder() / "y.json").write_text('{"data": 7}')
        assert found().running is None


def test_the_file_of_a_running_system_is_for_its_owner_alone_and_goes_with_it(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)) as a:
        assert stat.S_IMODE((a / RUN_FILE).stat().st_mode) == 0o600
        RunFile(a, 4).remove()
        assert find_running_system(a) is None
        assert list(pointers_folder().iterdir()) == []


def test_without_a_cache_the_data_folder_still_names_a_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    with standing(tmp_path / "a", ready_on(21000)) as a:
        assert find_running_systems() == []
        assert servers(found(SystemSelector(data=a))) == A


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_system_of_another_user_is_a_sentence(tmp_path: Path) -> None:
    with standing(tmp_path / "a", ready_on(21000)) as a:
        for folder in (a, *a.parents):
            if folder.owner() == "root" and folder.is_relative_to("/tmp/pytest-of-root"):
                folder.chmod(0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(CommandError, match=r"Permission denied: .*running.json; .* another user"):
                find_running_system(a)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("api", ["nonsense://x", "http://", "http://h:port"])
def test_an_api_that_is_no_url_is_a_usage_error(api: str) -> None:
    with pytest.raises(click.BadParameter):
        found(SystemSelector(api=api))


def test_urls_of_one_redis_are_the_same() -> None:
    assert same_redis("redis://localhost", "rediss://user:secret@127.0.0.1:6379/0")
    assert not same_redis("redis://localhost/1", "redis://localhost/0")
    assert not same_redis("redis://localhost:6380", "redis://localhost")
