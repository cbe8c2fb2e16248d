"""Parts of the embedded servers, without starting one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stocktide.embedded import jars, ports
from stocktide.embedded.class_archive import ClassArchive
from stocktide.embedded.java import find_java, java_version
from stocktide.embedded.kafka import storage_identity
from stocktide.embedded.ports import is_port_free, persisted_ports, pick_free_port
from stocktide.errors import EmbeddedError
from stocktide.up.run_file import write_ready_file
from tests.unit.fake_system import ready_on


def test_an_identity_never_begins_like_an_option() -> None:
    for first in range(256):
        identity = storage_identity(bytes([first]) + bytes(15))
        assert len(identity) == 22
        assert identity[0] != "-"


async def test_ports_persist_and_a_taken_one_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stocktide.embedded.ports.OLD_PORT_SECONDS_MAX", 0.1)
    file = tmp_path / "ports.json"
    first = await persisted_ports(file, ("broker", "controller"))
    assert await persisted_ports(file, ("broker", "controller")) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["broker"]))
        other.listen()
        assert not is_port_free(first["broker"])
        second = await persisted_ports(file, ("broker", "controller"))
    assert second["controller"] == first["controller"]
    assert second["broker"] != first["broker"]
    assert json.loads(file.read_text()) == second


PICK = """
import sys
from stocktide.embedded import ports
ports.PORTS_FROM, ports.PORTS_TO = int(sys.argv[1]), int(sys.argv[1]) + 1
print(ports.pick_free_port())
"""


def test_two_processes_never_pick_the_same_port_before_a_server_listens_on_it() -> None:
    port = pick_free_port()
    other = (sys.executable, "-c", PICK, str(port))
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "no free port" in refused.stderr
    for _ in range(ports.RESERVED_MAX):
        pick_free_port()
    assert len(ports._reserved) == ports.RESERVED_MAX
    assert int(subprocess.check_output(other)) == port, "a port that was picked long ago is picked by others too"


async def test_a_note_of_ports_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text('{"broker": 12')
    assert set(await persisted_ports(file, ("broker",))) == {"broker"}


def test_only_a_broker_that_ended_normally_leaves_its_class_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, made = tmp_path / "cache", tmp_path / "classes.jsa"
    cache.mkdir()
    monkeypatch.setattr("stocktide.embedded.class_archive.cache_folder", lambda: cache)
    archive = ClassArchive(fake_java(tmp_path / "java", "17"), "a.jar", tmp_path)
    for ended_normally, kept in ((False, []), (True, [b"classes"])):
        assert archive.use() == []
        assert f"-XX:ArchiveClassesAtExit={made}" in archive.options()
        made.write_bytes(b"classes")
        archive.keep(ended_normally)
        assert not made.exists()
        assert [each.read_bytes() for each in cache.iterdir()] == kept
    assert archive.options() == archive.use() != []
    (file,) = cache.iterdir()
    os.truncate(file, 3)
    assert archive.use() == []
    assert ClassArchive(fake_java(tmp_path / "other", "17"), "a.jar", tmp_path).use() == []


def fake_java(folder: Path, version: str) -> Path:
    """A `java` that prints a version as a real one does."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return program


async def test_a_java_reports_its_version(tmp_path: Path) -> None:
    assert await java_version(fake_java(tmp_path / "new", "21.0.2")) == 21
    assert await java_version(fake_java(tmp_path / "old", "1.8.0_392")) == 1
    assert await java_version(tmp_path / "none") is None


async def test_an_old_java_is_skipped_and_named_if_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path, "11.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.devnull)
    bundled = await find_java()
    assert bundled != old
    monkeypatch.setattr("stocktide.embedded.java._bundled", lambda: None)
    with pytest.raises(EmbeddedError, match=f"Java 17 or later .{old} is version 11"):
        await find_java()


def test_every_jar_is_locked_once_with_a_hash() -> None:
    assert len({coordinate for coordinate, _ in jars.JARS}) == len(jars.JARS) > 40
    assert all(len(sha256) == 64 for _, sha256 in jars.JARS)
    assert any(coordinate == "org.apache.kafka:kafka_2.13:4.1.1" for coordinate, _ in jars.JARS)


class FakeArtifact:
    """A download with this content."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.artifact = self
        self._folder = folder
        self._content = content

    def create_dependency(self, _: str) -> FakeArtifact:
        return self

    def resolve(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "download.jar"
        path.write_bytes(self._content)
        return path


@pytest.mark.parametrize("content", [b"the jar", b"the j"])
def test_a_jar_comes_into_the_cache_only_whole(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (("group:artifact:1", hashlib.sha256(b"the jar").hexdigest()),)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jars, "JARS", lock)
    monkeypatch.setattr(jars, "_maven", lambda folder: FakeArtifact(folder, content))
    messages: list[str] = []
    jars.cache_folder().mkdir(parents=True)
    if content == b"the jar":
        jars.fetch_missing(tmp_path / "scratch", messages.append)
        assert jars.missing_jars() == []
        assert messages == ["fetching Kafka's jars, once: 1 of 1"]
    else:
        with pytest.raises(EmbeddedError, match="group:artifact:1: its hash is"):
            jars.fetch_missing(tmp_path / "scratch", messages.append)
        assert jars.missing_jars() == list(lock)


def test_the_ready_file_is_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    write_ready_file(file, ready_on(8080))
    assert json.loads(file.read_text())["api"] == "http://127.0.0.1:8080"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


async def test_a_java_that_is_asked_for_its_version_gets_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKTIDE_REDIS_PASSWORD", "HUSH")
    java, seen = tmp_path / "java", tmp_path / "seen"
    java.write_text(f"#!/bin/sh\nenv > {seen}\necho 'openjdk version \"21.0.1\"'\n")
    java.chmod(0o755)
    assert await java_version(java) == 21
    assert "PATH=" in seen.read_text() and "HUSH" not in seen.read_text()
