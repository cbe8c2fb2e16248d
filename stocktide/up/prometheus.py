"""A Prometheus beside the system, for `stocktide up --with-prometheus`: a program that is installed already.

In: the addresses of worker and API, a key of the role `metrics`. Out: its configuration, our alert rules and its data
below the data folder, and a supervised process.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]

from stocktide.api.access.caller import METRICS
from stocktide.embedded.ports import is_port_free, pick_free_port
from stocktide.errors import CommandError
from stocktide.progress import Echo
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY, write_owner_only
from stocktide.up.program import Program

FOLDER = "prometheus"
KEY_FILE = "metrics.key"
# Prometheus's own port; a free one where it is taken.
PORT = 9090
# Half of Prometheus's usual minute: on one machine somebody looks at what has just happened.
SCRAPE_SECONDS = 15
# About three months of one worker and one API; the oldest go first.
DATA_SIZE_MAX = "1GB"


def find_prometheus() -> str:
    """The installed program. Raises CommandError."""
    found = shutil.which("prometheus")
    if found is None:
        raise CommandError(
            "--with-prometheus starts the program `prometheus`, which is not installed: `apt-get install prometheus` "
            "on Debian and Ubuntu, `brew install prometheus` on macOS, or a release of Prometheus in the PATH"
        )
    return found


def choose_port(avoid: Sequence[int]) -> int:
    """Prometheus's usual port if it is free, else another one."""
    return PORT if PORT not in avoid and is_port_free(PORT) else pick_free_port(avoid=avoid)


def store_key(data: Path, key: str | None) -> Path:
    """The file with the key for the API's metrics: the first one, else what the owner has put there. Raises
    CommandError."""
    file = data / FOLDER / KEY_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
        if key is not None:
            write_owner_only(file, key.encode())
        elif not file.exists():
            raise CommandError(
                f"--with-prometheus needs a key of the role {METRICS}, and the first one was revoked or its text "
                f"deleted: write the text of another (`stocktide keys add {METRICS}`) into {file}"
            )
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error}") from error
    return file


def prometheus_program(
    binary: str, data: Path, port: int, jobs: Sequence[dict[str, Any]], logs: Path, echo: Echo
) -> Program:
    """The supervised process, which listens on loopback alone. Writes its configuration. Raises CommandError."""
    folder = (data / FOLDER).resolve()
    config, rules = folder / "prometheus.yaml", folder / "rules.yaml"
    content = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(rules)],
        "scrape_configs": list(jobs),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
        rules.write_bytes(Path(__file__).with_name("rules.yaml").read_bytes())
        config.write_text(yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error}") from error
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.size={DATA_SIZE_MAX}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    address = f"http://127.0.0.1:{port}"
    return Program("prometheus", command, None, address, logs / "prometheus.log", echo, ready_path="/-/ready")


def worker_job(addresses: Sequence[str]) -> dict[str, Any]:
    """What Prometheus scrapes of the workers."""
    return {
        "job_name": "stocktide-worker",
        "static_configs": [{"targets": [urlsplit(each).netloc for each in addresses]}],
    }


def api_job(address: str, key_file: Path | None) -> dict[str, Any]:
    """What it scrapes of the API; `key_file` is None where every call is open."""
    url = urlsplit(address)
    job: dict[str, Any] = {"job_name": "stocktide-api", "static_configs": [{"targets": [url.netloc]}]}
    if url.scheme == "https":
        # The certificate names a host of the owner's, and this is its own machine.
        job |= {"scheme": "https", "tls_config": {"insecure_skip_verify": True}}
    if key_file is not None:
        job["authorization"] = {"type": "Bearer", "credentials_file": str(key_file.resolve())}
    return job
