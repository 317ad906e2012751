"""A copy of the template in which the chart is broken, rendered, checked and mended."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import yaml

from tools import chart_corpus
from tools.chart_source import Mutation
from tools.scaffolding import clone

TEMPLATE = Path(__file__).resolve().parents[1]
CHART = Path("helm/service")
SECONDS = 600  # a mutation that makes a check hang is noticed as well
TESTS = ("test_relations", "test_objects", "test_alerts", "test_smoke", "test_capacity")
# What finds most of what is wrong with a template.
FIRST = {"prometheusrule.yaml": "test_alerts", "tests/smoke.yaml": "test_smoke"}
# They take long: one bakes services, the others draw releases.
LEFT_OUT = "not service_names_its_image and not agree_on_every_release and not hundreds_were_seen"


class Bench:
    """A copy of the tree to break, and its chart under two names to render."""

    def __init__(self, folder: Path) -> None:
        """Copy the tree into `folder`."""
        self._tree = folder / "tree"
        clone(TEMPLATE, self._tree)
        self._chart = self._tree / CHART
        # A service may be called true.
        self._named = {name: self._link(folder / name, name) for name in ("service", "true")}

    def _link(self, chart: Path, name: str) -> Path:
        """Make a chart of some name out of the tree's templates; its values are not checked."""
        chart.mkdir(parents=True)
        for each in ("templates", "dashboards", "values.yaml"):
            (chart / each).symlink_to(self._chart / each)
        about = yaml.safe_load((self._chart / "Chart.yaml").read_text(encoding="utf-8"))
        (chart / "Chart.yaml").write_text(json.dumps(about | {"name": name}), encoding="utf-8")
        return chart

    def judge(self, mutation: Mutation, usual: "Usual", *, quick: bool) -> tuple[str, str]:
        """Break the tree, ask the checks, and mend it; return the verdict and what gave it."""
        path = self._chart / "templates" / mutation.file
        path.write_text(mutation.mutated, encoding="utf-8")
        try:
            return self._ask(mutation.file, usual, quick=quick)
        except subprocess.TimeoutExpired:
            return "killed", "time"
        finally:
            path.write_text(mutation.text, encoding="utf-8")

    def _ask(self, file: str, usual: "Usual", *, quick: bool) -> tuple[str, str]:
        if failed := self._failing_suite(file):
            return "killed", failed
        pairs = zip(self.behaviour(file), usual.of(file), strict=True)
        if all(one == other for one, other in pairs):
            return "equivalent", "corpus"
        failed = "" if quick else self._failing_test(file)
        return ("killed", failed) if failed else ("survived", "")

    def failing(self, file: str, *, quick: bool) -> str:
        """Return the first check that fails, if one does."""
        return self._failing_suite(file) or ("" if quick else self._failing_test(file))

    def _failing_suite(self, file: str) -> str:
        """Return the first failing test of the suites that read a template, or of all."""
        suites = sorted(self._chart.glob("tests/*_test.yaml"))
        if file.endswith((".yaml", ".txt")):
            suites = [each for each in suites if file in each.read_text(encoding="utf-8")]
        named = [part for each in suites for part in ("--file", f"tests/{each.name}")]
        done = self._unittest(self._chart, "--strict", "--failfast", *named)
        if not done.returncode:
            return ""
        # A chart that helm-unittest cannot load for other reasons proves nothing.
        if not re.search(r"(?m)^Tests: +[1-9]", done.stdout):
            sys.exit(f"error: helm-unittest could not run: {done.stdout[-2000:]}")
        failed = re.search(r"(?m)^ FAIL +(.*?)\t[^\n]*\n\t- (.*)$", done.stdout)
        return f"{failed[1]}: {failed[2]}" if failed else "suites"

    def behaviour(self, file: str) -> Iterator[str]:
        """Yield a hash of all that each part of the corpus makes of a template."""
        for name, corpus in chart_corpus.parts(TEMPLATE / CHART):
            chart, folder = self._named[name], self._named[name] / "corpus"
            chart_corpus.write(folder, corpus, [file] if file.endswith((".yaml", ".txt")) else [])
            output = self._unittest(chart, "--file", "corpus/*_test.yaml").stdout
            found = [re.sub(r"(?m)^Time: .*|^.*symbolic link.*", "", output)]
            found += [path.read_text(encoding="utf-8") for path in folder.glob("__snapshot__/*")]
            shutil.rmtree(folder)
            yield _same("".join(found).replace(str(chart), ""))

    def _unittest(self, chart: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.prefix) / "bin/helm-unittest"
        # The schema is the same for every mutation, and takes most of the time.
        return _run([str(program), "--skip-schema-validation", *arguments, str(chart)], self._tree)

    def _failing_test(self, file: str) -> str:
        """Return the first failing test in tests/chart, if one fails."""
        tests = sorted(TESTS, key=lambda name: name != FIRST.get(file))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        paths = [f"tests/chart/{name}.py" for name in tests]
        done = _run([*command, "-k", LEFT_OUT, *paths], self._tree)
        if done.returncode not in {0, 1}:
            sys.exit(f"error: pytest could not run: {done.stdout[-2000:]}")
        failed = re.search(r"(?m)^(?:FAILED|ERROR) tests/chart/(\S+)", done.stdout)
        return failed[1] if failed else ""


def _same(text: str) -> str:
    """Return a hash of a text in which checksums matter only by where they are equal."""
    names: dict[str, str] = {}
    text = re.sub(
        r"\b[0-9a-f]{64}\b",
        lambda found: names.setdefault(found[0], f"checksum {len(names)}"),
        text,
    )
    return hashlib.sha256(text.encode()).hexdigest()


class Usual:
    """What the unbroken chart makes of the corpus, rendered when it is first asked for."""

    def __init__(self, bench: Bench) -> None:
        """`bench` is never broken."""
        self._bench, self._known, self._lock = bench, dict[str, list[str]](), Lock()

    def of(self, file: str) -> list[str]:
        """Return the hash of each part of the corpus."""
        with self._lock:
            if file not in self._known:
                self._known[file] = list(self._bench.behaviour(file))
            return self._known[file]


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
