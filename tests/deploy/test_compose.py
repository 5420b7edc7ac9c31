"""docker-compose.yml: its services, their published ports, and the environment of every node."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.commands.preflight import check_exposure
from headrace.config import Settings
from headrace.edge.exchange import Exchange
from headrace.edge.limits import DRAIN_S
from headrace.edge.names import Names, own_names
from headrace.errors import StartFailed
from headrace_models.strict_toml import read_toml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
NODES = ("head", "worker")
RAY_DEFAULTS = {
    "RAY_worker_niceness": "0",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
    "RAY_enable_metrics_collection": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}
TOKEN = {"RAY_AUTH_TOKEN": "a-secret"}


def published() -> list[str]:
    return [port for service in SERVICES.values() for port in service.get("ports", [])]


def test_a_cluster_and_its_instruments_run() -> None:
    assert set(SERVICES) == {"head", "worker", "prometheus", "grafana", "locust"}


def test_nothing_is_published_beyond_this_machine() -> None:
    assert SERVICES["head"]["ports"] == ["127.0.0.1:8000:8000"]
    assert [port for port in published() if not port.startswith("127.0.0.1:")] == []


def test_no_port_of_ray_nor_the_admin_port_is_published() -> None:
    assert {port.rsplit(":", 1)[1] for port in published()} == {"8000", "3000", "8089", "9090"}


@pytest.mark.parametrize("node", NODES)
def test_every_node_has_the_same_flags_and_asks_for_the_token(node: str) -> None:
    environment = SERVICES[node]["environment"]
    assert environment.items() >= RAY_DEFAULTS.items()
    assert environment["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")


@pytest.mark.parametrize("node", NODES)
def test_shared_memory_holds_the_object_store(node: str) -> None:
    store = re.search(r"--object-store-memory=(\d+)", SERVICES[node]["command"][-1])
    assert store is not None
    assert SERVICES[node]["shm_size"] == "1gb"
    assert int(store[1]) < 10**9


def test_head_worker_and_load_test_are_one_image() -> None:
    assert {SERVICES[name]["image"] for name in (*NODES, "locust")} == {"headrace"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_mounted_exists(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        assert (ROOT / volume.split(":")[0]).exists()


def test_the_settings_in_the_image_are_valid_and_open_both_ports() -> None:
    settings = read_toml(Settings, ROOT / "deploy" / "headrace.toml")
    assert (settings.gateway.host, settings.gateway.port) == ("0.0.0.0", 8000)
    assert (settings.admin.host, settings.admin.port) == ("0.0.0.0", 8001)


def test_the_cluster_is_asked_by_names_that_are_its_own() -> None:
    """By Prometheus, by the load test and by its own health check."""
    settings = read_toml(Settings, ROOT / "deploy" / "headrace.toml")
    names = Names(own_names(settings.gateway.host, settings.gateway.names))
    texts = [
        (ROOT / name).read_text()
        for name in ("docker-compose.yml", "deploy/prometheus/prometheus.yml")
    ]
    found = {host for text in texts for host in re.findall(r"http://([a-z0-9.-]+:800[01])", text)}
    assert {"head:8000", "head:8001"} <= found
    for host in found:
        names.check(Exchange("GET", {b"host": host.encode()}, "", 0), b"/")


def test_the_image_alone_refuses_a_network_and_the_cluster_says_that_its_own_is_closed() -> None:
    settings = read_toml(Settings, ROOT / "deploy" / "headrace.toml")
    with pytest.raises(StartFailed, match=r"the data port on 0\.0\.0\.0 has no keys"):
        check_exposure(settings)
    assert SERVICES["head"]["command"][-1].endswith(
        "headrace serve --config headrace.toml --insecure"
    )
    insecure = settings.gateway.model_copy(update={"insecure": True})
    assert check_exposure(settings.model_copy(update={"gateway": insecure}))


def test_the_image_is_built_from_pinned_packages_and_runs_without_root() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert "pip install --require-hashes -r requirements.lock" in text
    assert "torch==2.13.0" in text
    assert re.search(r"^USER (?!root|0)", text, re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
    assert all((ROOT / source).exists() for line in copied for source in line.split()[:-1])


@pytest.fixture
def docker_compose() -> list[str]:
    if found := shutil.which("docker-compose"):
        return [found]
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    ):
        return ["docker", "compose"]
    pytest.skip("neither docker-compose nor docker compose is on this machine")


def ask(docker_compose: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [*docker_compose, "--file", str(ROOT / "docker-compose.yml"), "config"]
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    return subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def test_docker_compose_accepts_the_file(docker_compose: list[str]) -> None:
    done = ask(docker_compose, **TOKEN)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


def test_docker_compose_refuses_to_start_without_a_token(docker_compose: list[str]) -> None:
    done = ask(docker_compose, RAY_AUTH_TOKEN="")
    assert done.returncode != 0
    assert "RAY_AUTH_TOKEN" in done.stderr


@pytest.mark.parametrize("node", NODES)
def test_a_node_that_ends_by_itself_comes_back_and_one_that_is_told_to_has_time(node: str) -> None:
    assert SERVICES[node]["restart"] == "unless-stopped"
    settings = read_toml(Settings, ROOT / "deploy" / "headrace.toml")
    assert settings.gateway.shutdown_delay_s == 5.0
    grace = re.fullmatch(r"(\d+)s", SERVICES[node]["stop_grace_period"])
    assert grace
    assert float(grace[1]) >= settings.gateway.shutdown_delay_s + DRAIN_S + 20
