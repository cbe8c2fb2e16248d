"""The chart: it renders with each file of values, Kubernetes takes what it renders, and its settings are ours."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.deployed import DEPLOY, ROOT, check_settings
from tests.packages import find_helm

CHART = DEPLOY / "helm" / "stocktide"
VALUES = sorted(CHART.glob("values-*.yaml"))
# The oldest that the chart takes, and the newest that the validator knows.
KUBERNETES = ("1.27.0", "1.37.0")
EVERYTHING = {
    "kafka.security": "SASL_SSL",
    "kafka.mechanism": "PLAIN",
    "kafka.user": "u",
    "kafka.passwordSecret": "p",
    "kafka.tlsSecret": "k",
    "kafka.tlsClientCertificate": "true",
    "redis.tlsSecret": "r",
    "redis.tlsClientCertificate": "true",
    "api.tlsSecret": "t",
    "api.origins": r"https://shop.example\,https://other.example",
    "api.ingress.enabled": "true",
    "api.ingress.hosts[0]": "stock.example",
    "settings.STOCKTIDE_LOG_LEVEL": "DEBUG",
    "settingsSecrets[0]": "intake",
    "alertsSecret": "a",
    "mappingsConfigMap": "m",
}


def helm(*arguments: str | Path, status: int = 0) -> str:
    program = find_helm()
    if program is None:
        pytest.skip("helm is not installed (`make helm`): the chart is not tested")
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@functools.cache
def rendered(values: Path, kubernetes: str, is_everything: bool = False) -> tuple[Any, ...]:
    sets = [f"--set={name}={value}" for name, value in EVERYTHING.items()] if is_everything else []
    text = helm("template", "shop", CHART, "--values", values, "--kube-version", kubernetes, *sets)
    return tuple(each for each in yaml.safe_load_all(text) if each)


def of_kind(documents: tuple[Any, ...], kind: str) -> list[Any]:
    return [each for each in documents if each["kind"] == kind]


def containers(documents: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Each pod's specification with its container."""
    specs = [
        each["spec"]["template"]["spec"] for kind in ("Deployment", "StatefulSet") for each in of_kind(documents, kind)
    ]
    return [(spec, container) for spec in specs for container in spec["containers"]]


def environment(documents: tuple[Any, ...], container: Any) -> dict[str, str]:
    (settings,) = of_kind(documents, "ConfigMap")
    return {**settings["data"], **{each["name"]: str(each.get("value", "a-name")) for each in container["env"]}}


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_helm_lint_finds_nothing(values: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", values, "--kube-version", KUBERNETES[0])


@pytest.mark.parametrize(
    ("kubernetes", "is_everything"), [(KUBERNETES[0], True), (KUBERNETES[1], False)], ids=["everything", "as it is"]
)
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_kubernetes_takes_what_the_chart_renders(values: Path, kubernetes: str, is_everything: bool) -> None:
    documents = rendered(values, kubernetes, is_everything)
    assert len(documents) > 5
    for document in documents:
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # a definition of the operator of Prometheus
        kubernetes_validate.validate(document, kubernetes, strict=True)


@pytest.mark.parametrize(
    ("kubernetes", "is_everything"), [(KUBERNETES[0], True), (KUBERNETES[1], False)], ids=["everything", "as it is"]
)
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_every_variable_is_a_setting_and_every_file_is_mounted(
    values: Path, kubernetes: str, is_everything: bool
) -> None:
    documents = rendered(values, kubernetes, is_everything)
    for spec, container in containers(documents):
        environ = environment(documents, container)
        settings = check_settings(environ)
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        for name, value in environ.items():
            assert not value.startswith("/run/") or str(Path(value).parent) in mounted, name
        templates = [each for each in of_kind(documents, "StatefulSet") if each["spec"]["template"]["spec"] == spec]
        claims = [claim["metadata"]["name"] for each in templates for claim in each["spec"]["volumeClaimTemplates"]]
        assert set(mounted.values()) == {volume["name"] for volume in spec["volumes"]} | set(claims)
        assert mounted[str(settings.data)] == "data"
        assert spec["terminationGracePeriodSeconds"] > settings.drain_seconds + 10
        publishes = container["name"] == "worker" and settings.worker_role != "decide"
        assert ("/etc/stocktide/mappings" in mounted) == is_everything == ("STOCKTIDE_MAPPINGS" in environ)
        assert ("STOCKTIDE_ALERTS_FILE" in environ) == (is_everything and publishes)


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_pods_have_no_rights_that_they_do_not_need(values: Path) -> None:
    for spec, container in containers(rendered(values, KUBERNETES[1])):
        pod, own = spec["securityContext"], container["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] == pod["fsGroup"]
        assert f"USER {pod['runAsUser']}:{pod['runAsGroup']}\n" in (DEPLOY / "docker" / "Dockerfile").read_text()
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"]


def test_probes_ask_the_ports_that_the_processes_serve() -> None:
    documents = rendered(VALUES[0], KUBERNETES[0], True)
    for _, container in containers(documents):
        settings = check_settings(environment(documents, container))
        (port,) = container["ports"]
        is_api = container["name"] == "api"
        assert port["containerPort"] == (settings.port if is_api else settings.worker_port)
        paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "startup")}
        assert (paths, container["readinessProbe"]["httpGet"]["path"]) == ({"/healthz"}, "/readyz")
        assert container["readinessProbe"]["httpGet"].get("scheme") == ("HTTPS" if is_api else None)
        assert container["args"] == [container["name"]]


def test_a_network_policy_lets_in_clients_and_prometheus_and_out_to_the_servers_only() -> None:
    documents = rendered(CHART / "values-three-brokers.yaml", KUBERNETES[1])
    api, worker = (each["spec"] for each in of_kind(documents, "NetworkPolicy"))
    assert [each["ports"][0]["port"] for each in api["ingress"]] == ["http", "http"]
    assert [each["ports"][0]["port"] for each in worker["ingress"]] == ["metrics"]
    assert [rule["ports"][0]["port"] for rule in api["egress"]] == [53, 9093, 6379]
    assert [rule["ports"][0]["port"] for rule in worker["egress"]] == [53, 9093, 6379, 443]  # the last for webhooks
    closed = helm(
        *("template", "shop", CHART, "--values", CHART / "values-three-brokers.yaml", "--kube-version", KUBERNETES[1]),
        *("--set-json", "networkPolicy.metricsFrom=[]", "--show-only", "templates/networkpolicy.yaml"),
    )
    policies = [each["spec"] for each in yaml.safe_load_all(closed) if each]
    assert [len(each["ingress"]) for each in policies] == [1, 0]


def test_prometheus_names_the_jobs_as_the_rules_and_the_compose_file_do() -> None:
    monitors = of_kind(rendered(CHART / "values-three-brokers.yaml", KUBERNETES[1]), "ServiceMonitor")
    jobs = {each["spec"]["endpoints"][0]["relabelings"][0]["replacement"] for each in monitors}
    composed = yaml.safe_load((DEPLOY / "docker" / "prometheus.yaml").read_text())
    assert jobs == {each["job_name"] for each in composed["scrape_configs"]}
    assert all(re.fullmatch("stocktide-.+", job) for job in jobs)
    ports = {each["spec"]["endpoints"][0]["port"] for each in monitors}
    services = of_kind(rendered(CHART / "values-three-brokers.yaml", KUBERNETES[1]), "Service")
    assert ports == {port["name"] for each in services for port in each["spec"]["ports"]}


def test_three_brokers_have_budgets_for_disruptions_and_each_worker_a_name_that_stays() -> None:
    documents = rendered(CHART / "values-three-brokers.yaml", KUBERNETES[1])
    assert len(of_kind(documents, "PodDisruptionBudget")) == 3
    assert {each["metadata"]["name"] for each in of_kind(documents, "StatefulSet")} == {
        "shop-stocktide-decide",
        "shop-stocktide-publish",
    }
    for each in of_kind(documents, "StatefulSet"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert {
            "name": "STOCKTIDE_WORKER_NAME",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        } in container["env"]
    assert not of_kind(rendered(CHART / "values-one-node.yaml", KUBERNETES[1]), "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("api.drainSecond=5", "drainSecond"),
        ("kafka.security=SASL_SSL", "passwordSecret"),
        ("redis.url=redis://user:password@valkey:6379/0", "url"),
        ("workers.all.role=decides", "role"),
        ("kafka.brokers=", "kafka.brokers"),
        ("settings.KAFKA=x", "KAFKA"),
    ],
)
def test_values_that_are_misspelt_or_missing_are_refused(wrong: str, said: str) -> None:
    values = ("--values", CHART / "values-one-node.yaml", "--kube-version", KUBERNETES[0], "--set", wrong)
    assert said in helm("template", "shop", CHART, *values, status=1)


def test_the_chart_has_the_version_of_the_product_and_documents_its_values() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["appVersion"]}"\n' in (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r"`((?:kafka|redis|api|serviceMonitor)\.\w+)`", (CHART / "README.md").read_text()))
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in named:
        group, _, key = name.partition(".")
        assert key in values[group], name
