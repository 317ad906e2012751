"""The pipelines are sound, do the same, and call nothing but make targets that exist."""

import os
import re
import shutil
from pathlib import Path

import yaml

from tests import baking

TARGETS = ["setup", "lint", "types", "coverage", "image", "kind", "e2e"]


def tool(name: str) -> Path:
    """Return a checker that `make tools` installs, or skip, or fail in CI."""
    folders = [str(baking.VENV / "bin"), str(baking.VENV / "node_modules/.bin")]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ["PATH"]]))
    if found is None:
        baking.missing(f"{name} (`make tools` installs it)")
    return Path(str(found))


def github(service: Path) -> list[str]:
    workflow = yaml.safe_load((service / ".github/workflows/ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


def gitlab(service: Path) -> list[str]:
    pipeline = yaml.safe_load((service / ".gitlab-ci.yml").read_text())
    jobs = [job for job in pipeline.values() if isinstance(job, dict) and "script" in job]
    return [line for job in jobs for line in job["script"]]


def test_both_call_the_same_make_targets_in_the_same_order(
    baked: dict[tuple[str, str], Path],
) -> None:
    expected = [f"make {target}" for target in TARGETS]
    assert github(baked["shop", "github"]) == expected
    assert gitlab(baked["shop", "gitlab"]) == expected


def test_every_target_they_call_exists_and_is_phony(combination: Path) -> None:
    makefile = (combination / "Makefile").read_text()
    written = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == written
    assert set(TARGETS) <= written


def test_actions_are_pinned_by_commit(baked: dict[tuple[str, str], Path]) -> None:
    text = (baked["shop", "github"] / ".github/workflows/ci.yml").read_text()
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in uses)


def test_actionlint_has_nothing_to_say(baked: dict[tuple[str, str], Path]) -> None:
    for service in (baked["shop", "github"], baking.TEMPLATE / baking.SERVICE):
        baking.run(tool("actionlint"), ".github/workflows/ci.yml", cwd=service)


def test_gitlab_accepts_the_pipeline(baked: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    shutil.copy(baked["shop", "gitlab"] / ".gitlab-ci.yml", tmp_path)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    baking.run(*git, "init", "--quiet", cwd=tmp_path)
    baking.run(*git, "commit", "--quiet", "--allow-empty", "--message", "empty", cwd=tmp_path)
    output = baking.run(tool("gitlab-ci-local"), "--list", cwd=tmp_path)
    assert "json schema validated" in output
