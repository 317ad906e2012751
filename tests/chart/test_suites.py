"""The suites of helm-unittest pass, in the template and in a service, and cover every template."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import baking
from tests.chart import charts


def run(chart: Path) -> int:
    """Run the suites of a chart and return how many tests passed."""
    output = baking.run(charts.tool("helm-unittest"), "--strict", chart, cwd=baking.TEMPLATE)
    found = re.search(r"Tests: +(\d+) passed, \1 total", output)
    assert found, output
    return int(found[1])


def test_the_suites_pass_in_the_template_and_in_a_service(
    baked: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    chart = shutil.copytree(baked["none", "gitlab"] / "chart", tmp_path / "chart")
    # They stay in the template: a service owns no test of a template that it may not edit.
    shutil.copytree(charts.CHART / "tests", chart / "tests")
    with ThreadPoolExecutor() as threads:
        both = threads.map(run, [charts.CHART, chart])
    own, service = both
    assert own == service > 100


def test_every_template_has_a_suite() -> None:
    folder = charts.CHART / "templates"
    templates = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in {".yaml", ".txt"}
    }
    suites = "".join(path.read_text() for path in (charts.CHART / "tests").glob("*_test.yaml"))
    named = re.findall(r"^templates: \[(.*)\]$", suites, re.MULTILINE)
    assert templates == {name for names in named for name in names.split(", ")}


def test_every_limit_has_a_refusal_in_the_suites() -> None:
    source = (charts.CHART / "templates/_capacity.tpl").read_text()
    limits = set(re.findall(r'dict "name" "([^"]+)"', source))
    assert len(limits) == 14
    suite = (charts.CHART / "tests/capacity_test.yaml").read_text()
    refused = re.findall(r"errorPattern: '(?:\(\?s\))?(.*)'", suite)
    assert {limit for limit in limits if any(limit in pattern for pattern in refused)} == limits


def test_a_service_checks_its_own_chart_with_make_chart(used: dict[tuple[str, str], Path]) -> None:
    chosen = [("shop", "github"), ("none", "gitlab")]
    with ThreadPoolExecutor() as threads:
        for output in threads.map(lambda each: baking.make("chart", cwd=used[each]), chosen):
            assert " passed" in output
