"""Images of scaffolded services are built by `make image`; their containers keep the contract."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import baking

REGISTRY = "localhost:5000/template-tests"
BUILT = re.compile(r"^Built (?P<name>\S+) with (?P<engine>\w+): [\d.]+ MB$", re.MULTILINE)
pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def _images() -> Iterator[None]:
    """Remove the images of these tests from every engine that has them."""
    yield
    for engine in ("docker", "podman", "buildah"):
        for slug in ("strange", "bare"):
            command = [engine, "rmi", "--force", f"{REGISTRY}/{slug}:0.1.0"]
            subprocess.run(["sh", "-c", '"$@"', "sh", *command], capture_output=True, check=False)


def test_the_image_of_a_service_with_a_strange_name_keeps_the_contract(
    source: Path, tmp_path: Path
) -> None:
    service = baking.bake(
        source,
        tmp_path,
        project_name="Ann's $HOME, Café 桌游 ${PATH}",
        project_slug="strange",
        description="It's $(id); {x} & [y] # 'z' % äöü",
        registry=REGISTRY,
    )
    output = baking.make("image", cwd=service, minutes=9)
    built = BUILT.search(output)
    assert built, output
    assert built["name"] == f"{REGISTRY}/strange:0.1.0"
    # It compares the labels with these names.
    baking.library("tests/image", service=service, minutes=9)


def close(path: Path) -> None:
    """Leave a file or folder to its owner alone, as umask 077 does."""
    for each in (path, *path.rglob("*")):
        each.chmod(0o700 if each.is_dir() else 0o600)


def test_a_service_without_the_example_from_a_closed_folder_migrates_and_runs_in_its_image(
    source: Path, tmp_path: Path
) -> None:
    service = baking.bake(source, tmp_path, project_slug="bare", registry=REGISTRY, example="none")
    close(service)
    baking.make("image", cwd=service, minutes=9)
    baking.library("tests/image/test_image.py", service=service)
