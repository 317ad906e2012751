"""The library as a distribution: what is built, what it declares, and the copy in a service."""

import ast
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import baking
from tests.library import KIT, build
from tools import lock, manifest

SERVICE = baking.TEMPLATE / baking.SERVICE
PACKAGE = manifest.PACKAGE
# Private parts of these are used: another release may change them without telling.
PRIVATE_PARTS_OF = {
    "fastapi",
    "gunicorn",
    "httpx",
    "opentelemetry-api",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation",
    "opentelemetry-instrumentation-httpx",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
    "opentelemetry-util-http",
    "prometheus-client",
    "prometheus-fastapi-instrumentator",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvicorn-worker",
}


def project(folder: Path = KIT) -> dict[str, Any]:
    """Return the pyproject.toml of a folder."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> set[str]:
    """Return the library's files, without its sums."""
    return {line.partition("  ")[2] for line in manifest.text().splitlines()}


def plain(name: str) -> str:
    """Return a distribution's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """Return the distribution that a requirement asks for."""
    return plain(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0])


def imported(files: Iterable[Path]) -> set[str]:
    """Return the top-level modules that files import and Python does not have."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    # pydantic pins its core; several distributions share the name opentelemetry.
    own = {"slipway_kit", "app", "opentelemetry", "pydantic_core"}
    return found - sys.stdlib_module_names - own


def test_the_sums_are_those_of_the_files() -> None:
    written = (PACKAGE / "MANIFEST").read_text(encoding="utf-8")
    assert written == manifest.text(), "run `make manifest`"


def test_no_file_that_is_copied_as_it_is_holds_what_a_renderer_would_take() -> None:
    for folder in (PACKAGE, baking.TEMPLATE / "helm/service"):
        for path in baking.walk(folder):
            if "__pycache__" not in path.parts:
                found = re.search("<" * 2 + "|# <%|# <#", path.read_text(encoding="utf-8"))
                assert not found, f"{path} holds {found}"


def test_a_bake_holds_the_library_as_plain_files(combination: Path) -> None:
    copy = combination / "slipway_kit"
    assert not copy.is_symlink()
    assert set(baking.files(copy)) == {*sources(), "MANIFEST"}
    assert all((copy / name).read_bytes() == (PACKAGE / name).read_bytes() for name in sources())


def runtime() -> list[Path]:
    """Return the files of the library that an image holds."""
    return [
        path
        for path in PACKAGE.rglob("*.py")
        if not {"dev", "testing"} & set(path.relative_to(PACKAGE).parts)
    ]


def test_what_an_image_holds_imports_nothing_that_it_lacks() -> None:
    for path in runtime():
        found = re.search(
            r"^\s*(from|import) slipway_kit(\.| import )(dev|testing)\b",
            path.read_text("utf-8"),
            re.MULTILINE,
        )
        assert not found, f"{path} imports {found}"


def test_what_is_imported_at_run_time_is_declared() -> None:
    declared = {name_of(each) for each in project()["project"]["dependencies"]}
    owners = packages_distributions()
    for module in imported(runtime()):
        assert {plain(owner) for owner in owners[module]} & declared, module


def test_what_testing_and_dev_import_is_declared() -> None:
    tables = project()["project"]
    declared = {
        name_of(each) for each in tables["dependencies"] + tables["optional-dependencies"]["dev"]
    }
    owners = packages_distributions()
    files = (path for folder in ("dev", "testing") for path in (PACKAGE / folder).rglob("*.py"))
    # uvloop comes with uvicorn[standard].
    for module in imported(files) - {"uvloop"}:
        assert {plain(owner) for owner in owners[module]} & declared, module


def test_every_dependency_has_a_lower_bound_and_an_upper_one_where_private_parts_are_used() -> None:
    bounded = {name_of(each): each for each in project()["project"]["dependencies"]}
    assert bounded.keys() >= PRIVATE_PARTS_OF
    for name, requirement in bounded.items():
        assert ">=" in requirement
        assert ("<" in requirement) == (name in PRIVATE_PARTS_OF), requirement


def test_the_service_s_groups_hold_what_the_library_declares() -> None:
    groups = project(SERVICE)["dependency-groups"]
    for name, wanted in lock.groups().items():
        assert groups[name] == wanted, "run `make lock`"


def test_the_service_declares_what_its_own_code_imports() -> None:
    declared = {name_of(each) for each in project(SERVICE)["project"]["dependencies"]}
    files = (path for name in ("app", "migrations") for path in (SERVICE / name).rglob("*.py"))
    owners = packages_distributions()
    used = {plain(owner) for module in imported(files) for owner in owners[module]}
    assert used == declared


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist, made as `make kit-build` makes them."""
    return build(tmp_path_factory.mktemp("kit"))


def metadata(text: bytes) -> Message:
    """Return what a METADATA or PKG-INFO says."""
    return HeaderParser().parsestr(text.decode())


def test_the_wheel_holds_the_package_with_its_tests_and_tools_and_says_what_it_is(
    built: Path,
) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    package = {name for name in held if name.startswith("slipway_kit/")}
    assert package == {f"slipway_kit/{name}" for name in [*sources(), "MANIFEST"]}
    assert package >= {
        "slipway_kit/py.typed",
        "slipway_kit/testing/plugin.py",
        "slipway_kit/dev/postgres.py",
    }
    (name,) = (name for name in held if name.endswith(".dist-info/METADATA"))
    said = metadata(held[name])
    assert said["Name"] == "slipway-kit"
    assert said["Version"] == version()
    assert said["License-Expression"] == "MIT"
    assert said["Requires-Python"] == project()["project"]["requires-python"]
    assert said["Description-Content-Type"] == "text/markdown"
    wanted = {name_of(each) for each in project()["project"]["dependencies"]}
    assert wanted < {name_of(each) for each in said.get_all("Requires-Dist", [])}


def test_the_sdist_holds_what_a_wheel_is_made_from_its_licence_and_changes(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= {f"src/slipway_kit/{name}" for name in [*sources(), "MANIFEST"]}
    assert held >= {
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "docs/contract.md",
        "src/slipway_kit/LICENSE",
    }
    licence = (baking.TEMPLATE / "LICENSE").read_bytes()
    assert (PACKAGE / "LICENSE").read_bytes() == licence


def test_an_index_would_take_both(built: Path) -> None:
    if not find_spec("twine"):
        baking.missing("twine")
    files = sorted(built.iterdir())
    assert len([path for path in files if path.suffix in {".gz", ".whl"}]) == 2
    said = baking.run(
        *(sys.executable, "-m", "twine", "--no-color", "check", "--strict"),
        *(path for path in files if path.suffix in {".gz", ".whl"}),
        cwd=built,
    )
    assert said.count("PASSED") == 2


def version() -> str:
    """Return the version that the package has."""
    found = re.search(
        r'^__version__ = "(.+)"$', (PACKAGE / "__init__.py").read_text(), re.MULTILINE
    )
    assert found
    return found[1]


def test_the_version_is_a_release_or_on_the_way_to_one_with_a_section_of_changes() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev0)?", version())
    changes = (KIT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (.+)$", changes, re.MULTILINE)
    assert newest
    assert newest[1].startswith("Unreleased" if version().endswith(".dev0") else version())
