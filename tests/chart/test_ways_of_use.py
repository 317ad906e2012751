"""The chart as others use it: below another chart, by their command lines, with a sync of files."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import charts, relations, service
from tests.chart.charts import CHART, EVERYTHING, Rendered
from tests.chart.objects import hook, title

# What Kubernetes wants to be text, given as `--set` and an unquoted YAML make it.
UNQUOTED: dict[str, Any] = {
    "image": {"tag": 20261201},
    "config": {"DOCS_ENABLED": True, "HSTS_SECONDS": 31536000},
    "podAnnotations": {"a": 1},
    "podLabels": {"b": 20261201},
    "nodeSelector": {"c": True},
    "service": {"annotations": {"d": 1}},
    "serviceAccount": {"annotations": {"e": False}},
    "ingress": {"annotations": {"f": 3600}},
    "httpRoute": {"annotations": {"g": 1}},
    "metrics": {
        "serviceMonitor": {"labels": {"h": 1}},
        "alerts": {"labels": {"i": 1}},
        "dashboard": {"labels": {"j": 1}},
    },
    "extraEnv": [{"name": "A", "value": 1}, {"name": "B", "value": True}],
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": 536870912}},
}


def as_text(part: object) -> Any:  # noqa: ANN401 (values)
    """Quote what is no text."""
    if isinstance(part, dict):
        return {name: as_text(value) for name, value in part.items()}
    if isinstance(part, list):
        return [as_text(value) for value in part]
    return part if isinstance(part, str) else json.dumps(part)


@pytest.mark.parametrize("helm", ["3", "4"])
def test_numbers_and_booleans_are_written_as_text(helm: str) -> None:
    made = charts.render(charts.merged(EVERYTHING, UNQUOTED), helm=helm)
    assert not made.refusal
    assert made == charts.render(charts.merged(EVERYTHING, as_text(UNQUOTED)), helm=helm)
    assert len(made.objects) > 15


def template(helm: str, *arguments: str) -> Rendered:
    """Return what `helm template` writes with some arguments."""
    command = [charts.helms()[helm], "template", charts.RELEASE, str(CHART), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(each for each in yaml.load_all(done.stdout, charts.LOADER) if each), "")


@pytest.mark.parametrize("helm", ["3", "4"])
def test_migration_and_service_can_be_applied_one_after_the_other(helm: str) -> None:
    """The README's commands for those who apply files: kubectl knows no hooks."""
    shown = [f"templates/{name}.yaml" for name in ("migration-access", "migration")]
    first = template(helm, *(part for name in shown for part in ("--show-only", name)))
    assert sorted(each["kind"] for each in first.objects) == [
        *("Job", "NetworkPolicy", "ServiceAccount")
    ]
    then = template(helm, "--no-hooks")
    assert not [each for each in then.objects if hook(each) or each["kind"] == "Job"]
    assert then.find("Deployment")


@pytest.mark.parametrize("helm", ["3", "4"])
def test_the_command_line_sets_a_tag_of_digits(helm: str) -> None:
    made = template(
        helm,
        *("--set", "image.tag=7,config.DOCS_ENABLED=true,podAnnotations.a=1"),
        *("--set", "extraEnv[0].name=A,extraEnv[0].value=1,resources.requests.cpu=1"),
    )
    container = charts.container(made.find("Deployment"))
    assert container["image"].endswith(":7")
    assert {"name": "A", "value": "1"} in container["env"]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A chart with this one as a dependency, twice: under its name and under an odd other one."""
    chart = tmp_path / "parent"
    shutil.copytree(CHART, chart / "charts/service")
    own = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    dependency = {"name": own["name"], "version": own["version"], "repository": ""}
    about = {
        "apiVersion": "v2",
        "name": "parent",
        "version": "1.0.0",
        "dependencies": [
            {**dependency, "condition": "service.enabled"},
            {**dependency, "alias": "Games_2", "condition": "Games_2.enabled"},
        ],
    }
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    return chart


@pytest.mark.parametrize("helm", ["3", "4"])
def test_a_parent_chart_switches_it_and_gives_it_values(helm: str, parent: Path) -> None:
    def render(values: dict[str, Any]) -> Rendered:
        made = charts.render(values, helm=helm, chart=parent)
        assert not made.refusal
        return made

    on, off = {"enabled": True, "replicas": 3}, {"enabled": False}
    shared = {"global": {"registry": "example.org"}}
    made = render({"service": on, "Games_2": off} | shared)
    assert made.find("Deployment")["spec"]["replicas"] == 3
    alone = charts.render({"replicas": 3}, helm=helm)
    assert set(map(title, made.objects)) == set(map(title, alone.objects))
    assert render({"service": off, "Games_2": off}).objects == ()


@pytest.mark.parametrize("helm", ["3", "4"])
def test_it_is_there_twice_under_two_names(helm: str, parent: Path) -> None:
    made = charts.render(helm=helm, chart=parent)
    assert len(made.of("Deployment")) == 2, made.refusal
    names = [title(each) for each in made.objects]
    assert len(set(names)) == len(names)
    assert {each["metadata"]["name"] for each in made.of("Service")} == {
        *(charts.NAME, f"{charts.NAME}-metrics", "games-games-2", "games-games-2-metrics")
    }


def test_two_releases_of_a_namespace_share_nothing() -> None:
    """Selectors of the one do not find pods of the other, and no name is there twice."""
    made = [charts.render(EVERYTHING, release=name) for name in ("games", "games-2", "v1.2")]
    objects = [each for release in made for each in release.objects]
    assert len(set(map(title, objects))) == len(objects)
    told = [sentence for sentence in relations.problems(objects) if "selects the pods" in sentence]
    assert told == []


def test_a_gateway_strips_the_prefix_that_the_service_is_told() -> None:
    values = {
        "server": {"pathPrefix": "/shop", "trustedProxies": ["10.0.0.0/8", "fd00::1"]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    }
    made = charts.render(values)
    (rule,) = made.find("HTTPRoute")["spec"]["rules"]
    (match,), (rewrite,) = rule["matches"], rule["filters"]
    rest = "/shop/health".removeprefix(match["path"]["value"])
    asked = rewrite["urlRewrite"]["path"]["replacePrefixMatch"].rstrip("/") + rest
    assert asked in service.routes()
    environment = made.find("ConfigMap")["data"] | {"DATABASE_URL": "postgresql://user@host/name"}
    (read,) = service.load([environment])
    assert read["error"] == ""
    told = read["settings"]["server"]
    assert (told["root_path"], told["forwarded_allow_ips"]) == ("/shop", "10.0.0.0/8,fd00::1")


@pytest.mark.parametrize("release", ["v1.2", "1e3", "2048", "a.b-c", "9." + "x" * 51, "0"])
def test_every_name_is_one_that_kubernetes_takes(release: str) -> None:
    made = charts.render(EVERYTHING, release=release)
    assert relations.problems(made.objects, {("Gateway", "public"): set()}) == []
    for each in made.objects:
        name = each["metadata"]["name"]
        assert len(name) <= 63
        assert name[0].isalpha(), name
        assert name.replace("-", "").isalnum(), name


def test_an_environment_names_no_variable_twice() -> None:
    """A server-side apply, which is what Helm 4 does, refuses a list with one key twice."""
    given = {"config": {"LOG_LEVEL": "INFO"}, "extraEnv": [{"name": "LOG_LEVEL", "value": "DEBUG"}]}
    made = charts.render(given)
    for workload in [*made.of("Deployment"), *made.of("Job")]:
        names = [each["name"] for each in charts.container(workload).get("env", [])]
        assert len(set(names)) == len(names)


def test_the_migration_is_over_before_helm_stops_waiting() -> None:
    helm_waits_seconds = 300
    job = charts.render().find("Job", f"{charts.NAME}-migration")
    assert job["spec"]["activeDeadlineSeconds"] < helm_waits_seconds
