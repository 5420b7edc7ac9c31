"""Prometheus' configuration and Grafana's board, against what the platform really exposes."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from headrace.telemetry.prometheus import PrometheusGateway, PrometheusReplica

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana" / "dashboards" / "headrace.json").read_text(encoding="utf-8")
)
# What Prometheus adds by itself to every scrape.
PROMETHEUS_OWN = {"up"}
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def expressions() -> list[str]:
    """Every expression of the board, its variables given values."""
    return [
        target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*")
        for panel in BOARD["panels"]
        for target in panel["targets"]
    ]


def metrics_asked_for(expression: str) -> set[str]:
    """The metric names of an expression: no functions, labels, strings or durations."""
    labels = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    bare = re.sub(rf'"[^"]*"|\[[^]]*\]|{labels}', " ", expression)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    return {
        name
        for name in re.findall(r"[a-zA-Z_:][\w:]*(?!\s*\()\b(?!\s*\()", bare)
        if name not in {"sum", "or"}
    }


@pytest.fixture
def exposed() -> set[str]:
    """The series of a gateway, a replica and any process."""
    registry = CollectorRegistry()
    PrometheusGateway(registry)
    PrometheusReplica(registry, "m", "1")
    ProcessCollector(registry=registry)
    return {
        family.name + suffix
        for family in registry.collect()
        for suffix in _SUFFIXES.get(family.type, ("",))
    } | PROMETHEUS_OWN


def test_every_panel_asks_for_something() -> None:
    assert len(BOARD["panels"]) >= 15
    assert all(target["expr"].strip() for panel in BOARD["panels"] for target in panel["targets"])


@pytest.mark.parametrize("expression", expressions())
def test_the_board_asks_only_for_metrics_that_exist(expression: str, exposed: set[str]) -> None:
    asked = metrics_asked_for(expression)
    assert asked
    assert asked <= exposed


def test_every_metric_of_ours_is_on_the_board(exposed: set[str]) -> None:
    asked = {
        re.sub("_(bucket|sum|count|total)$", "", name)
        for e in expressions()
        for name in metrics_asked_for(e)
    }
    ours = {
        re.sub("_(bucket|sum|count|total)$", "", name)
        for name in exposed
        if name.startswith("headrace_")
    }
    assert ours <= asked


def test_prometheus_can_parse_every_expression(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"board:panel:{n}", "expr": expression}
        for n, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(
        yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8"
    )
    assert_accepts([promtool, "check", "rules", str(file)])


# By model and outcome.
Expected = dict[tuple[str, str | None], float]


def of_panel(title: str) -> str:
    """A panel's first expression."""
    panel = next(panel for panel in BOARD["panels"] if panel["title"] == title)
    return (
        str(panel["targets"][0]["expr"]).replace("$__rate_interval", "1m").replace("$model", ".*")
    )


def ended(model: str, outcome: str, values: str, api: str = "infer") -> dict[str, str]:
    labels = f'model="{model}", api="{api}", outcome="{outcome}", code="{outcome}"'
    return {"series": f"headrace_requests_total{{{labels}}}", "values": values}


def test_the_share_of_errors_is_0_of_what_is_well_and_idle_and_leaves_out_callers_and_probes(
    promtool: str, tmp_path: Path
) -> None:
    of_each = {
        "well": {"answered": "0+10x24", "caller": "0+10x24", "ours": "0x24", "state": "0x24"},
        "idle": {"answered": "7x24", "caller": "0x24", "ours": "0x24", "state": "0x24"},
        "ill": {"answered": "0+10x24", "caller": "0+10x24", "ours": "0+20x24", "state": "0+40x24"},
    }
    series = [ended(model, *one) for model, outcomes in of_each.items() for one in outcomes.items()]
    probes = [
        ended(model, "state", "0+1000x24", api)
        for model in of_each
        for api in ("health", "metadata")
    ]
    of_outcomes = {"well": (0, 0), "idle": (0, 0), "ill": (0.25, 0.5)}
    expected: Expected = {
        (m, o): v
        for m, of in of_outcomes.items()
        for o, v in zip(("ours", "state"), of, strict=True)
    }
    assert_gives(promtool, tmp_path, [*series, *probes], of_panel("Share of errors"), expected)


def test_the_latency_is_of_answers_and_an_idle_model_has_none(
    promtool: str, tmp_path: Path
) -> None:
    def timed(
        model: str, outcome: str, bound: str, values: str, api: str = "infer"
    ) -> dict[str, str]:
        labels = f'model="{model}", api="{api}", outcome="{outcome}", le="{bound}"'
        return {"series": f"headrace_request_seconds_bucket{{{labels}}}", "values": values}

    fast, slow, never = ("0+10x24", "0+10x24"), ("0x24", "0+10x24"), ("5x24", "5x24")
    of_each = [("m", "answered", slow), ("m", "state", fast), ("idle", "answered", never)]
    bounds = ("1", "2")
    series = [
        timed(m, o, le, v) for m, o, values in of_each for le, v in zip(bounds, values, strict=True)
    ]
    series += [
        timed("m", "answered", le, v, "metadata") for le, v in zip(bounds, fast, strict=True)
    ]
    series += [
        {**one, "series": one["series"].replace('le="2"', 'le="+Inf"')}
        for one in series
        if 'le="2"' in one["series"]
    ]
    assert_gives(promtool, tmp_path, series, of_panel("Latency p50"), {("m", None): 1.5})


def assert_gives(
    promtool: str,
    folder: Path,
    series: list[dict[str, str]],
    expression: str,
    expected: Expected,
) -> None:
    """The values of an expression by model and outcome, after two minutes."""
    samples = [
        {
            "labels": f'{{model="{model}"' + (f', outcome="{outcome}"}}' if outcome else "}"),
            "value": value,
        }
        for (model, outcome), value in expected.items()
    ]
    asked = {"expr": expression, "eval_time": "2m", "exp_samples": samples}
    test = {"interval": "5s", "input_series": series, "promql_expr_test": [asked]}
    file = folder / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [], "evaluation_interval": "5s", "tests": [test]}),
        encoding="utf-8",
    )
    assert_accepts([promtool, "test", "rules", str(file)])


def test_prometheus_accepts_its_configuration(promtool: str) -> None:
    assert_accepts([promtool, "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")])


def test_prometheus_shows_an_admins_key_everywhere_once_it_is_given_one(
    promtool: str, tmp_path: Path
) -> None:
    text = (
        (DEPLOY / "prometheus" / "prometheus.yml")
        .read_text(encoding="utf-8")
        .replace("# authorization", "authorization")
    )
    key = tmp_path / "headrace.key"
    key.write_text("hr_key.secret", encoding="utf-8")
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/etc/prometheus/headrace.key", str(key)), encoding="utf-8")
    assert_accepts([promtool, "check", "config", str(file)])
    job = yaml.safe_load(file.read_text(encoding="utf-8"))["scrape_configs"][0]
    assert (
        job["authorization"]
        == job["http_sd_configs"][0]["authorization"]
        == {"credentials_file": str(key)}
    )


def assert_accepts(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_asks_the_admin_port_for_its_targets() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert config["global"]["scrape_interval"] == "5s"
    assert [sd["url"] for sd in jobs["headrace"]["http_sd_configs"]] == ["http://head:8001/sd"]


def test_no_panel_covers_another() -> None:
    taken = [cell for panel in BOARD["panels"] for cell in cells(panel["gridPos"])]
    assert len(taken) == len(set(taken))


def cells(panel: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(panel["x"], panel["x"] + panel["w"]):
        for y in range(panel["y"], panel["y"] + panel["h"]):
            yield x, y


def test_the_board_asks_the_data_source_that_is_provisioned() -> None:
    sources = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    uids = {
        source["uid"]
        for source in yaml.safe_load(sources.read_text(encoding="utf-8"))["datasources"]
    }
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == uids
