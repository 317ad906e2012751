"""What kube-score and checkov find in files of manifests, and what of it is left so."""

import json
import os
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chart import charts

POLICIES = Path(__file__).with_name("policies")
GOOD = 10  # kube-score's best grade; 5 is a warning, 1 critical


@dataclass(frozen=True)
class Finding:
    """What a check says of an object of a release."""

    check: str
    said: str
    release: str
    object: str

    def __str__(self) -> str:
        return f"{self.release}: {self.object}: {self.check}: {self.said}"


@dataclass(frozen=True)
class Exemption:
    """A finding that is left so, in every release or in some."""

    check: str
    said: str
    reason: str
    release: str | None

    def covers(self, finding: Finding) -> bool:
        """Return whether this is about the finding."""
        return (self.check, self.said) == (finding.check, finding.said) and self.release in (
            None,
            finding.release,
        )


def exemptions(tool: str) -> list[Exemption]:
    """Return what is left so of what a tool finds."""
    entries = tomllib.loads((POLICIES / f"{tool}.toml").read_text(encoding="utf-8"))
    return [
        Exemption(check, said, entry["reason"], release)
        for check, entry in entries.items()
        for said in entry["said"]
        for release in entry.get("releases", [None])
    ]


def kube_score(manifests: Iterable[Path]) -> list[Finding]:
    """Return everything that kube-score finds, file by file, its optional checks too."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return [
            one
            for found in threads.map(lambda path: list(_score(path)), manifests)
            for one in found
        ]


def _score(manifest: Path) -> Iterator[Finding]:
    answer = _ask(
        *(charts.tool("kube-score"), "score", "--output-format", "json", "--all-default-optional"),
        *("--disable-ignore-checks-annotations", "--disable-optional-checks-annotations"),
        *("--kubernetes-version", f"v{charts.KUBERNETES}", str(manifest)),
    )
    for scored in answer:
        for each in scored["checks"]:
            if each["grade"] < GOOD and not each["skipped"]:
                for comment in each["comments"]:
                    name = f"{scored['type_meta']['kind']} {scored['object_meta']['name']}"
                    yield Finding(each["check"]["id"], comment["summary"], manifest.stem, name)


def checkov(folder: Path) -> list[Finding]:
    """Return everything that checkov finds in the files of a folder."""
    answer = _ask(
        *(charts.tool("checkov"), "--directory", str(folder), "--framework", "kubernetes"),
        *("--output", "json", "--quiet", "--compact", "--skip-download"),
    )
    assert answer["summary"]["parsing_errors"] == 0
    return [
        Finding(
            each["check_id"], each["check_name"], Path(each["file_path"]).stem, each["resource"]
        )
        for each in answer["results"]["failed_checks"]
    ]


def _ask(*command: str) -> Any:  # noqa: ANN401 (JSON of either tool)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)
