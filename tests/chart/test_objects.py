"""What helm makes of the chart fits together, and fits the service."""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import baking
from tests.chart import charts, service
from tests.chart.charts import ENVIRONMENTS, EVERYTHING, NAME, SERVICE, Rendered

OWN = SERVICE / "chart"
GOLDEN = baking.TEMPLATE / "kit/tests/unit/service/metrics.txt"


@pytest.fixture(scope="module")
def everything() -> Rendered:
    """Every object at once."""
    return charts.render(EVERYTHING)


@pytest.fixture(scope="module")
def plain() -> Rendered:
    """The defaults."""
    return charts.render()


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
@pytest.mark.parametrize("kubernetes", ["1.29", "1.30", "1.36"])
def test_helm_3_and_helm_4_make_the_same_objects(values: dict[str, Any], kubernetes: str) -> None:
    made = [
        {
            (each["kind"], each["metadata"]["name"], "hook" in str(each["metadata"])): each
            for each in charts.render(values, helm=helm, kubernetes=kubernetes).objects
        }
        for helm in charts.helms()
    ]
    assert made[0] == made[1]
    assert len(made[0]) > 8


def test_an_older_kubernetes_is_refused() -> None:
    assert "incompatible with Kubernetes v1.28" in charts.render(kubernetes="1.28").refusal


def test_helm_lint_has_nothing_to_say() -> None:
    for helm in charts.helms().values():
        baking.run(helm, "lint", "--strict", charts.CHART, cwd=baking.TEMPLATE)


def test_every_template_makes_something_of_everything(everything: Rendered) -> None:
    kinds = sorted(each["kind"] for each in everything.objects)
    assert kinds == sorted(
        [
            *("ConfigMap", "ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler"),
            *("Ingress", "Job", "Job", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"),
            *("PrometheusRule", "Secret", "Secret", "Service", "Service", "ServiceAccount"),
            *("ServiceAccount", "ServiceMonitor"),
        ]
    )
    assert {each["metadata"]["namespace"] for each in everything.objects} == {charts.NAMESPACE}


def test_names_stay_valid_however_long_the_release_is() -> None:
    for release in ("a" * 53, f"{'b' * 49}-ccc", "my-service-eu"):
        rendered = charts.render(EVERYTHING, release=release)
        assert not rendered.refusal
        for each in rendered.objects:
            assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", each["metadata"]["name"])
    names = {each["metadata"]["name"] for each in charts.render(release="my-service-eu").objects}
    assert "my-service-eu" in names


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("games", "games-service"),
        ("v1.2", "v1-2-service"),
        ("2048", "release-2048-service"),
        (f"2048-{'x' * 45}-{'y' * 2}", f"release-2048-{'x' * 37}"),
        ("service", "service"),
        ("my-services", "my-services"),
        (f"my-service-{'x' * 42}", f"my-service-{'x' * 39}"),
        (f"my-service-{'x' * 38}-{'y' * 3}", f"my-service-{'x' * 38}"),
        ("x" * 49, "x" * 49),
        ("x" * 50, "x" * 50),
        ("x" * 53, "x" * 50),
    ],
)
def test_objects_are_named_for_the_release_and_the_chart_once(release: str, name: str) -> None:
    assert charts.render(release=release).of("Deployment")[0]["metadata"]["name"] == name


def strings(part: object, inside: str = "") -> Iterator[tuple[str, object]]:
    """Yield what Kubernetes wants to be strings: names, labels, annotations and selectors."""
    if isinstance(part, dict):
        for key, value in part.items():
            if inside in {"labels", "annotations", "matchLabels", "selector"} or key == "name":
                yield key, value
            yield from strings(value, key)
    elif isinstance(part, list):
        for value in part:
            yield from strings(value)


def test_names_that_yaml_takes_for_something_else_stay_names(tmp_path: Path) -> None:
    """A release, and a service with its chart, may be called no."""
    chart = shutil.copytree(charts.CHART, tmp_path / "chart")
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"name": "no"}))
    for values in (EVERYTHING, charts.merged(EVERYTHING, {"fullnameOverride": "yes"})):
        rendered = charts.render(values, chart=chart, release="no")
        assert len(rendered.objects) > 15, rendered.refusal
        found = [found for each in rendered.objects for found in strings(each)]
        assert len(found) > 200
        assert [each for each in found if not isinstance(each[1], (str, dict))] == []


def settings_of(rendered: Rendered) -> dict[str, str]:
    """Return the environment of the service's container, the database's address filled in."""
    given: dict[str, str] = rendered.find("ConfigMap")["data"]
    return given | {"DATABASE_URL": "postgresql://user:password@postgres/shop"}


def test_the_service_starts_with_what_the_chart_gives_it(
    plain: Rendered, everything: Rendered
) -> None:
    environments = [charts.render(files=[OWN / f"values-{name}.yaml"]) for name in ENVIRONMENTS]
    answers = service.load(map(settings_of, [plain, everything, *environments]))
    assert [answer["error"] for answer in answers] == [""] * len(answers)
    server = answers[0]["settings"]["server"]
    assert (server["app_env"], server["host"]) == (
        "production",
        "::" if socket.has_dualstack_ipv6() else "0.0.0.0",
    )
    assert server["web_concurrency"] == charts.defaults()["server"]["workers"]
    assert answers[1]["settings"]["tracing"]["exporter_otlp_endpoint"] == "http://collector:4318"
    assert answers[2]["settings"]["server"]["docs_enabled"] is True


def test_migration_and_service_have_the_same_settings(everything: Rendered) -> None:
    (container,) = everything.find("Job", f"{NAME}-migration")["spec"]["template"]["spec"][
        "containers"
    ]
    written = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert written == everything.find("ConfigMap")["data"]


def test_the_defaults_of_chart_and_service_agree(plain: Rendered) -> None:
    """A value differs from the service's default only where a pod is not a laptop."""
    bare, given = service.load([{}, settings_of(plain)])
    changed = {
        f"{group}.{field}"
        for group, fields in bare["settings"].items()
        if isinstance(fields, dict)
        for field, value in fields.items()
        if given["settings"][group][field] != value
    }
    assert changed == {
        "database.pool_size",  # two workers share what one has elsewhere
        "database.url",
        "server.app_env",
        "server.host",
        "server.web_concurrency",
    }


def test_ports_agree_with_the_service(plain: Rendered) -> None:
    container = charts.container(plain.find("Deployment"))
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    (answer,) = service.load([settings_of(plain)])
    server = answer["settings"]["server"]
    assert ports == {"http": server["port"], "metrics": server["metrics_port"]}
    targets = [port["targetPort"] for each in plain.of("Service") for port in each["spec"]["ports"]]
    assert sorted(targets) == sorted(ports)


def test_probes_and_tests_ask_for_routes_of_the_service(plain: Rendered) -> None:
    container = charts.container(plain.find("Deployment"))
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in PROBED}
    assert {kind: probe["path"] for kind, probe in probes.items()} == PROBED
    assert {probe["port"] for probe in probes.values()} == {"http"}
    asked = {*PROBED.values(), *charts.defaults()["tests"]["paths"]}
    assert asked <= service.routes()
    script = charts.container(plain.find("Job", f"{NAME}-test"))["command"][-1]
    compile(script, "smoke", "exec")
    assert all(f'"{path}"' in script for path in asked)


PROBED = {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}


def test_a_pod_is_given_the_time_that_its_workers_take(plain: Rendered) -> None:
    (verdict,) = service.judge([charts.defaults()])
    assert verdict["accepted"]
    grace = plain.find("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    refused = charts.merged(
        charts.defaults(), {"server": {"terminationGracePeriodSeconds": grace - 1}}
    )
    assert not service.judge([refused])[0]["accepted"]


def test_every_file_of_an_environment_adds_up() -> None:
    for name in ENVIRONMENTS:
        assert not charts.render(files=[OWN / f"values-{name}.yaml"]).refusal


def test_changed_settings_and_a_changed_secret_roll_the_pods() -> None:
    def checksums(values: dict[str, Any]) -> dict[str, str]:
        template = charts.render(values).find("Deployment")["spec"]["template"]
        found: dict[str, str] = template["metadata"]["annotations"]
        return found

    before = checksums({})
    assert checksums({}) == before
    assert (
        checksums({"config": {"LOG_LEVEL": "DEBUG"}})["checksum/config"]
        != (before["checksum/config"])
    )
    urls = [f"postgresql://user:{word}@postgres/shop" for word in ("old", "new")]
    old, new = (checksums({"database": {"url": url}})["checksum/secret"] for url in urls)
    assert old != new
    assert not any("old" in each for each in checksums({"database": {"url": urls[0]}}).values())


def test_the_chart_of_a_service_names_its_image_and_version(
    baked: dict[tuple[str, str], Path],
) -> None:
    made = baked["shop", "github"]
    file = made / "app/about.py"
    about = {"__file__": str(file)}
    exec(file.read_text(), about)
    own = yaml.safe_load((made / "chart/Chart.yaml").read_text())
    assert (own["name"], own["appVersion"]) == (about["SLUG"], about["VERSION"])
    assert own["annotations"]["image"] == about["IMAGE"]
    kube = yaml.safe_load((charts.CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert own["kubeVersion"] == kube
    rendered = charts.render(chart=made / "chart", release="board-games")
    container = charts.container(rendered.find("Deployment", "board-games"))
    assert container["image"] == f"{about['IMAGE']}:{about['VERSION']}"


METRIC = re.compile(r"\b(?:http|db|event_loop|thread_pool|process_pool|queue|cache|batch)_[a-z_]+")


def queries(rendered: Rendered) -> list[str]:
    """Return every expression of the alerts and the dashboard."""
    (group,) = rendered.find("PrometheusRule")["spec"]["groups"]
    data = rendered.find("ConfigMap", f"{NAME}-dashboard")["data"]
    dashboard = json.loads(data[f"{NAME}.json"])
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [each.get("query", "") for each in dashboard["templating"]["list"]]
    return [
        *(rule["expr"] for rule in group["rules"]),
        *(target["expr"] for target in targets),
        *(query for query in variables if "(" in query),
    ]


def test_alerts_and_dashboard_ask_for_metrics_that_a_scrape_holds(everything: Rendered) -> None:
    served = {line.split()[0] for line in GOLDEN.read_text().splitlines() if line}
    series = served | {f"{name}_{end}" for name in served for end in ("bucket", "count", "sum")}
    asked = {name for query in queries(everything) for name in METRIC.findall(query)}
    assert len(asked) >= 5
    assert asked <= series


def test_every_alert_has_its_section_in_the_runbook(everything: Rendered) -> None:
    (group,) = everything.find("PrometheusRule")["spec"]["groups"]
    runbook = (SERVICE / "docs/runbook.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", runbook, re.MULTILINE)
    assert sections == [rule["alert"] for rule in group["rules"]]
    for rule in group["rules"]:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
