"""Write unit/service/metrics.txt: name, type and labels of every metric of a service.

Run `python -m kit.tests.support.metrics_list` after a metric was added, removed or renamed. A test
compares the list with what is defined and another one with a real scrape, so that nobody renames by
accident what dashboards and alerts read.
"""

import pkgutil
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

import slipway_kit
from app.main import create_app
from app.settings import Settings
from slipway_kit.runtime import runtime_of

LIST = Path(__file__).parents[1] / "unit/service/metrics.txt"
# Of the tests, not of the service.
_FOREIGN = "scenario_"
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? \S+")
_PART = re.compile(r"_(bucket|count|sum)$")


def defined() -> list[str]:
    """Return a row for each metric that the modules of the service make, sorted."""
    for module in pkgutil.walk_packages(slipway_kit.__path__, "slipway_kit."):
        import_module(module.name)
    # What is logged meanwhile is no part of the list.
    with redirect_stdout(sys.stderr):
        app = create_app(Settings())
    registries = (REGISTRY, runtime_of(app).get(CollectorRegistry))
    return sorted(row for registry in registries for row in _rows(registry))


def scraped(exposition: str) -> list[str]:
    """Return the same rows for the metrics of a scrape, which have series already."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in types}
    for line in exposition.splitlines():
        if match := _SAMPLE.fullmatch(line):
            name = match["name"] if match["name"] in types else _PART.sub("", match["name"])
            labels[name] |= set(re.findall(r'(\w+)="', match["labels"] or "")) - {"le"}
    rows = (_row(name, types[name], labels[name]) for name in types)
    return sorted(row for row in rows if not row.startswith(_FOREIGN))


def _rows(registry: CollectorRegistry) -> Iterable[str]:
    for metric in registry._collector_to_names:
        # Others tell of the process, and there are several.
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            suffix = "_total" if family.type == "counter" else ""
            row = _row(family.name + suffix, family.type, metric._labelnames)
            if not row.startswith(_FOREIGN):
                yield row


def _row(name: str, kind: str, labels: Iterable[str]) -> str:
    return " ".join(filter(None, (name, kind, ",".join(sorted(labels)))))


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write("\n".join(defined()) + "\n")
    else:
        LIST.write_text("\n".join(defined()) + "\n", encoding="utf-8")
