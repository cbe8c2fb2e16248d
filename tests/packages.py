"""Debian packages that some tests need.

In: packages. Out: a warning about the tests that are skipped without them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.chromium import find_chromium

# The client for browsers and Node, and the programs that check its types.
CLIENT = Path(__file__).parents[1] / "clients" / "js"
CLIENT_TOOLS = CLIENT / "node_modules" / ".bin"
NODE_MAJOR_MIN = 20
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, slots=True)
class Package:
    """A program or a Debian package; `lost` says what is not tested without it, `installed_by` what installs it."""

    name: str
    is_installed: Callable[[], bool]
    lost: str
    installed_by: str = "make packages"


def find_faketime() -> Path | None:
    """The library of the package `faketime`, if it is installed."""
    return next(Path("/").glob(FAKETIME.removeprefix("/")), None)


def find_helm() -> str | None:
    """The program `helm`, that of `make helm` first."""
    own = Path(sys.executable).with_name("helm")
    return str(own) if own.exists() else shutil.which("helm")


def find_node() -> str | None:
    """The program `node`, if it is new enough."""
    node = shutil.which("node")
    if node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    return node if int(version.strip().lstrip("v").partition(".")[0] or 0) >= NODE_MAJOR_MIN else None


def has_client_tools() -> bool:
    """Whether the types of the client can be checked."""
    return find_node() is not None and (CLIENT_TOOLS / "tsc").exists()


CHROMIUM = Package("chromium", lambda: find_chromium() is not None, "the tests of the pages are SKIPPED")
SECOND_REDIS = Package(
    "redis-server", lambda: shutil.which("redis-server") is not None, "the ledger is tested on Valkey ALONE"
)
HELM = Package(
    "helm", lambda: find_helm() is not None, "the chart of deploy/helm is NOT rendered or validated", "make helm"
)
SYSTEMD = Package(
    "systemd", lambda: shutil.which("systemd-analyze") is not None, "the units of deploy/systemd are NOT verified"
)
OPENSSL = Package("openssl", lambda: shutil.which("openssl") is not None, "servers and APIs with TLS are NOT tested")
CLOCKS = Package("faketime", lambda: find_faketime() is not None, "clocks that jump are NOT among the faults")
NODE = Package("nodejs (20 or later)", lambda: find_node() is not None, "the JavaScript client is NOT tested")
NPM = Package("npm, with what it installs in clients/js", has_client_tools, "types of that client are NOT checked")

PROMETHEUS = Package(
    "prometheus",
    lambda: all(map(shutil.which, ("prometheus", "promtool"))),
    "alert rules and `up --with-prometheus` are NOT tested",
)
needs_promtool = pytest.mark.skipif(not PROMETHEUS.is_installed(), reason="prometheus is not installed")


def warnings_about(*packages: Package) -> list[str]:
    """A warning for each package that is missing. Nothing is installed: `make packages` does that."""
    return [
        f"{package.name} is not installed: {package.lost} (`{package.installed_by}` installs it)"
        for package in packages
        if not package.is_installed()
    ]
