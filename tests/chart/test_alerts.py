"""Each alert fires when it should and keeps silent when it should, as promtool evaluates it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import baking
from tests.chart import charts

TARGET = f'namespace="{charts.NAMESPACE}", service="{charts.NAME}-metrics"'


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The alerts of a release as Prometheus reads them."""
    rendered = charts.render({"metrics": {"alerts": {"enabled": True}}})
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(rendered.find("PrometheusRule")["spec"]))
    return path


def series(name: str, values: str, target: str = TARGET, **labels: str) -> dict[str, str]:
    """Describe what scrapes of one series would say, one each 30 s."""
    more = "".join(f', {label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{target}{more}}}", "values": values}


def lag(fast: int, slow: int, pod: str = "a") -> list[dict[str, str]]:
    """Describe a histogram that grows by `fast` and `slow` observations each scrape."""
    return [
        series("event_loop_lag_seconds_bucket", f"0+{total}x60", pod=pod, le=le)
        for le, total in (("0.05", fast), ("0.5", fast + slow), ("+Inf", fast + slow))
    ]


def pool(worker: str, taken: int) -> list[dict[str, str]]:
    """Describe one of a pod's pools of ten connections."""
    return [
        series("db_pool_checked_out", f"{taken}x60", pod="a", worker=worker),
        series("db_pool_size", "10x60", pod="a", worker=worker),
    ]


def refused(refusals: int, requests: int, target: str = TARGET) -> list[dict[str, str]]:
    """Describe so many refusals, half of them for each of two limits, and requests a scrape."""
    return [
        *(
            series(
                "admission_refused_total", f"0+{refusals / 2:g}x60", target, pod="a", limit=limit
            )
            for limit in ("event_loop", "db_pool")
        ),
        series("http_requests_total", f"0+{requests}x60", target, pod="a", status="2xx"),
    ]


FIRES, SILENT = "fires", "keeps silent"
ELSEWHERE = 'namespace="other", service="other-metrics"'


@dataclass(frozen=True)
class Case:
    """What scrapes said, and whether an alert fires at some minute because of it."""

    alert: str
    fires: str
    at: str
    scraped: list[dict[str, str]]


CASES = [
    Case(
        "ServiceDown", SILENT, "30m", [series("up", "1x60", pod="a"), series("up", "0x60", pod="b")]
    ),
    Case("ServiceDown", FIRES, "30m", [series("up", "0x60", pod="a")]),
    Case("ServiceDown", FIRES, "30m", [series("up", "1x60", ELSEWHERE, pod="a")]),
    Case("ServiceDown", SILENT, "11m", [series("up", "1x20 0x40", pod="a")]),
    Case("ServiceDown", FIRES, "13m", [series("up", "1x20 0x40", pod="a")]),
    Case(
        "ErrorRatioHigh",
        FIRES,
        "20m",
        [
            series("http_requests_total", "0+94x60", pod="a", status="2xx"),
            series("http_requests_total", "0+6x60", pod="b", status="5xx"),
        ],
    ),
    Case(
        "ErrorRatioHigh",
        SILENT,
        "20m",
        [
            series("http_requests_total", "0+96x60", pod="a", status="2xx"),
            series("http_requests_total", "0+4x60", pod="b", status="5xx"),
        ],
    ),
    Case(
        "ErrorRatioHigh",
        SILENT,
        "20m",
        [
            series("http_requests_total", "0+10x60", pod="a", status="2xx"),
            series("http_requests_total", "0+90x60", pod="a", status="4xx"),
        ],
    ),
    Case(
        "ErrorRatioHigh",
        SILENT,
        "20m",
        [
            series("http_requests_total", "0+10x60", pod="a", status="2xx"),
            series("http_requests_total", "0+90x60", ELSEWHERE, pod="z", status="5xx"),
        ],
    ),
    Case("ErrorRatioHigh", SILENT, "20m", [series("http_requests_total", "0x60", status="2xx")]),
    Case("RequestsRefused", FIRES, "20m", refused(6, 94)),
    Case("RequestsRefused", SILENT, "20m", refused(4, 96)),
    Case("RequestsRefused", SILENT, "4m", refused(6, 94)),
    Case("RequestsRefused", SILENT, "20m", refused(90, 10, ELSEWHERE)),
    Case("RequestsRefused", FIRES, "20m", [*refused(6, 94), *refused(0, 9000, ELSEWHERE)]),
    Case(
        "DatabasePoolFull",
        FIRES,
        "20m",
        [series("db_pool_checked_out", "10x60", pod="a"), series("db_pool_size", "10x60", pod="a")],
    ),
    Case(
        "DatabasePoolFull",
        SILENT,
        "20m",
        [series("db_pool_checked_out", "9x60", pod="a"), series("db_pool_size", "10x60", pod="a")],
    ),
    Case(
        "DatabasePoolFull",
        SILENT,
        "20m",
        [
            series("db_pool_checked_out", "10x5 3x1 10x5 3x1 10x5 3x60", pod="a"),
            series("db_pool_size", "10x90", pod="a"),
        ],
    ),
    Case("DatabasePoolFull", FIRES, "20m", [*pool("a", 10), *pool("b", 10)]),
    Case("DatabasePoolFull", SILENT, "20m", [*pool("a", 10), *pool("b", 0)]),
    Case("EventLoopLagHigh", FIRES, "20m", lag(90, 10)),
    Case("EventLoopLagHigh", SILENT, "20m", lag(999, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.fires}")
def test_an_alert_fires_and_keeps_silent(case: Case, rules: Path, tmp_path: Path) -> None:
    (group,) = yaml.safe_load(rules.read_text())["groups"]
    (rule,) = [each for each in group["rules"] if each["alert"] == case.alert]
    pods = {"pod": "a"} if "by (pod" in rule["expr"] else {}
    summary = rule["annotations"]["summary"].replace("{{ $labels.pod }}", "a")
    expected: list[dict[str, Any]] = [
        {
            "exp_labels": {**rule["labels"], **pods},
            "exp_annotations": rule["annotations"] | {"summary": summary},
        }
    ]
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": case.scraped,
                "alert_rule_test": [
                    {
                        "eval_time": case.at,
                        "alertname": case.alert,
                        "exp_alerts": expected if case.fires == FIRES else [],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    baking.run(charts.tool("promtool"), "test", "rules", path, cwd=tmp_path)


def test_promtool_accepts_the_rules(rules: Path) -> None:
    assert "5 rules found" in baking.run(
        charts.tool("promtool"), "check", "rules", rules, cwd=rules.parent
    )


def test_every_alert_was_seen_firing_and_silent(rules: Path) -> None:
    (group,) = yaml.safe_load(rules.read_text())["groups"]
    for rule in group["rules"]:
        assert {case.fires for case in CASES if case.alert == rule["alert"]} == {FIRES, SILENT}
