"""The unrendered tree is a project of its own."""

import re
import subprocess
from pathlib import Path

import yaml

from tests import baking

OURS = re.compile(r"<<cookiecutter\.[a-z_]+>>")


def test_every_opening_delimiter_in_the_service_is_ours(source: Path) -> None:
    for path in baking.walk(source / baking.SERVICE):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            rest = OURS.sub("", line)
            assert "<<" not in rest, f"{path}:{number} would be taken for a template: {line}"
            assert "# <#" not in rest, f"{path}:{number} would be taken for a comment: {line}"


def test_the_service_pins_are_part_of_the_templates() -> None:
    service = baking.TEMPLATE / baking.SERVICE / "requirements-dev.txt"
    own = baking.TEMPLATE / "requirements-dev.txt"
    assert pins(service) <= pins(own)
    assert {name.partition("==")[0] for name in pins(own)} >= {"cookiecutter", "pyyaml"}
    assert "://" not in own.read_text()


def pins(path: Path) -> set[str]:
    return set(re.findall(r"^[a-z0-9._-]+==[^ ;]+", path.read_text(), re.MULTILINE))


def test_the_decoy_folder_holds_a_readme_alone(source: Path) -> None:
    assert list(baking.files(source / "{{cookiecutter.cruft}}")) == ["README.md"]


def test_cookiecutter_asks_only_what_it_has_a_prompt_for(source: Path) -> None:
    spec = yaml.safe_load((source / "cookiecutter.json").read_text())
    asked = [name for name in spec if not name.startswith("_")]
    assert list(spec["__prompts__"]) == asked


def test_help_lists_every_target() -> None:
    for folder in (baking.TEMPLATE, baking.TEMPLATE / baking.SERVICE):
        makefile = (folder / "Makefile").read_text()
        listed = subprocess.run(
            ["make"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
        targets = re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE)
        assert re.findall(r"^  make ([a-z0-9-]+)", listed, re.MULTILINE) == targets
