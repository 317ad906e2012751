"""The names that dashboards and alerts read."""

import subprocess
import sys

from kit.tests.support.metrics_list import LIST, scraped
from kit.tests.support.paths import REPOSITORY, SERVICE

EXPOSITION = """\
# HELP a_total Things.
# TYPE a_total counter
a_total{kind="x, y=\\"2\\""} 1.0
# HELP b Seconds.
# TYPE b histogram
b_bucket{le="1.0",route="/"} 1.0
b_sum{route="/"} 0.5
# HELP scenario_c Of a test.
# TYPE scenario_c gauge
scenario_c 1.0
# HELP d Depth.
# TYPE d gauge
d 1.0
"""


def test_the_metrics_are_those_of_the_list() -> None:
    # In a process of its own: other tests make metrics too.
    command = [sys.executable, "-m", "kit.tests.support.metrics_list", "--print"]
    path = {"PYTHONPATH": f"{REPOSITORY}:{SERVICE}"}
    defined = subprocess.run(
        command, env=path, cwd=SERVICE, capture_output=True, text=True, check=True
    ).stdout
    assert defined == LIST.read_text(encoding="utf-8"), (
        "if you meant it: python -m kit.tests.support.metrics_list"
    )


def test_a_scrape_is_read_as_names_types_and_labels() -> None:
    assert scraped(EXPOSITION) == ["a_total counter kind", "b histogram route", "d gauge"]
