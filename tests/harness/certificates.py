"""Certificates of a test's own authority, made by `openssl`. In: a folder. Out: PEM files, valid for a day."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `server` holds the server's certificate, `server_key` its key, and so on."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    # Self-signed: no client trusts it.
    untrusted: Path


def make_certificates(folder: Path) -> Certificates:
    """Make all files. Skips the test with a warning where `openssl` is not installed."""
    if shutil.which("openssl") is None:
        warnings.warn("openssl is not installed: secured servers were not tested", stacklevel=1)
        pytest.skip("openssl is not installed: apt-get install openssl")
    made = Certificates(
        *(folder / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key", "x"))
    )
    _openssl("-subj", "/CN=Test CA", "-keyout", str(folder / "ca-key.pem"), "-out", str(made.ca))
    _openssl("-subj", "/CN=Untrusted", "-keyout", str(folder / "x-key.pem"), "-out", str(made.untrusted))
    authority = ("-CA", str(made.ca), "-CAkey", str(folder / "ca-key.pem"))
    signed = (*authority, "-addext", "basicConstraints=critical,CA:FALSE")
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    _openssl(*signed, *names, "-subj", "/CN=server", "-keyout", str(made.server_key), "-out", str(made.server))
    _openssl(*signed, "-subj", "/CN=client", "-keyout", str(made.client_key), "-out", str(made.client))
    return made


def _openssl(*options: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)
