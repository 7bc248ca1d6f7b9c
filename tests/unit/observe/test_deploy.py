"""The board, the alert rules and the documents speak of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from bridge.observe import catalogue
from tests.unit.observe.promql import asked, tokens

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/trunkbridge.json").read_text("utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
EVERYWHERE = frozenset({"instance", "job"})
"""Labels that Prometheus adds."""


def series() -> dict[str, frozenset[str]]:
    """Return every series of a daemon and of Prometheus' own, with its labels."""
    found = {"up": frozenset[str]()}
    for figure in catalogue.ALL:
        labels = frozenset(figure.labels)
        if figure.kind == "histogram":
            found[f"{figure.name}_bucket"] = labels | {"le"}
            found[f"{figure.name}_sum"] = found[f"{figure.name}_count"] = labels
        else:
            found[figure.name] = labels
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    for family in registry.collect():
        for sample in family.samples:
            found[sample.name] = frozenset(sample.labels)
    return found


SERIES = series()


def panels() -> Iterator[dict[str, Any]]:
    for panel in BOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[tuple[str, str, str]]:
    """Return place, expression and legend of every query of the board."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for note in BOARD["annotations"]["list"]:
        yield note["name"], note["expr"], note["titleFormat"]


def check(expression: str) -> frozenset[str]:
    """Check that all *expression* asks for exists; return the labels its answer may have."""
    found = asked(expression)
    assert found.selectors
    labels = EVERYWHERE
    for metric, matched in found.selectors:
        assert metric in SERIES, metric
        assert matched <= SERIES[metric] | EVERYWHERE, (metric, matched)
        labels |= SERIES[metric]
    assert found.grouped <= labels, found.grouped
    return labels


@pytest.mark.parametrize(("place", "expression", "legend"), list(queries()))
def test_every_query_of_the_board_asks_for_what_exists(
    place: str, expression: str, legend: str
) -> None:
    labels = check(expression)
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, place


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_asks_for_what_exists(rule: dict[str, Any]) -> None:
    labels = check(rule["expr"])
    text = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert file == "docs/operations.md"
    assert anchor == rule["alert"].lower()
    assert re.search(rf"^### {rule['alert']}$", OPERATIONS, re.MULTILINE)


def test_every_runbook_belongs_to_an_alert() -> None:
    written = re.findall(r"^### (Trunkbridge\w+)$", OPERATIONS, re.MULTILINE)
    assert sorted(written) == sorted(rule["alert"] for rule in RULES)


def test_every_alert_is_tested_both_ways() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text("utf-8"))["tests"]
    fires, quiet = set(), set()
    for case in cases:
        for test in case["alert_rule_test"]:
            (fires if test["exp_alerts"] else quiet).add(test["alertname"])
        for series_ in case["input_series"]:
            ((metric, labels),) = asked(series_["series"]).selectors
            assert metric in SERIES
            assert labels <= SERIES[metric] | EVERYWHERE
    assert fires == quiet == {rule["alert"] for rule in RULES}


def test_the_example_of_prometheus_scrapes_the_job_that_the_rules_expect() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "trunkbridge"
    assert config["rule_files"] == ["alerts.yml"]


def test_the_board_can_be_put_anywhere() -> None:
    """Its data source is a variable, its panels have ids of their own and do not overlap."""
    assert {item["name"]: item["type"] for item in BOARD["templating"]["list"]} == {
        "datasource": "datasource",
        "instance": "query",
        "trunk": "query",
    }
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    for variable in BOARD["templating"]["list"][1:]:
        (metric, label) = re.fullmatch(
            r"label_values\((\w+), (\w+)\)", variable["definition"]
        ).groups()  # type: ignore[union-attr]
        assert label in SERIES[metric] | EVERYWHERE


def test_the_board_shows_what_is_promised_and_the_promise_for_holds() -> None:
    shown = {metric for _, expression, _ in queries() for metric in asked(expression).metrics}
    for name in ("calls", "calls_ended_total", "rtp_lost_total", "trunk_up", "livekit_up"):
        assert f"trunkbridge_{name}" in shown
    for name in ("setup", "hold_publish", "rtp_jitter", "loop_lag", "journal_write"):
        assert f"trunkbridge_{name}_seconds_bucket" in shown
    (hold,) = [panel for panel in panels() if panel["title"] == "Hold to call_hold"]
    steps = hold["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 0.025]


def test_operations_explains_every_metric_and_no_other() -> None:
    table = OPERATIONS.partition("## Metrics")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \|$", table, re.MULTILINE)
    explained = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(explained) == len(rows)
    assert explained == {(figure.name, figure.kind, figure.labels) for figure in catalogue.ALL}


def test_histograms_have_buckets_in_order_and_nothing_else_has_any() -> None:
    for figure in catalogue.ALL:
        assert bool(figure.buckets) == (figure.kind == "histogram"), figure.name
        assert list(figure.buckets) == sorted(set(figure.buckets))
    assert 0.025 in catalogue.HOLD_PUBLISH_SECONDS.buckets
    assert 0.05 in catalogue.LOOP_LAG.buckets


def test_the_tokenizer_finds_selectors_and_groups() -> None:
    found = asked(
        'histogram_quantile(0.99, sum by (le, a) (rate(x_bucket{b=~"c|{}", d="e"}[5m]))) > 1'
    )
    assert found.selectors == [("x_bucket", frozenset({"b", "d"}))]
    assert found.grouped == {"le", "a"}
    assert asked("a unless on (instance) b offset 1d # c").metrics == {"a", "b"}
    with pytest.raises(ValueError, match="no PromQL"):
        tokens("a ? b")


if shutil.which("promtool") is not None:  # a plus where it is installed; nothing depends on it

    @pytest.mark.parametrize(
        "arguments",
        [
            ("check", "rules", "alerts.yml"),
            ("check", "config", "prometheus.yml"),
            ("test", "rules", "alerts_test.yml"),
        ],
        ids=" ".join,
    )
    def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
        done = subprocess.run(
            ["promtool", *arguments],
            cwd=PROMETHEUS,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
