"""One clean copy of the template and one bake of each combination serve all tests."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests import baking, combinations, machine

COMBINATIONS = [(example, ci) for example in ("shop", "none") for ci in ("github", "gitlab")]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a fresh clone has it."""
    return baking.clone(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def baked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Every combination, to look at: a test that runs something in one takes it from `used`."""
    folder = tmp_path_factory.mktemp("bakes")
    return {
        (example, ci): baking.bake(source, folder / f"{example} {ci}", example=example, ci=ci)
        for example, ci in COMBINATIONS
    }


@pytest.fixture(scope="session")
def used(
    baked: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Every combination, to run things in, in folders with a space in their paths."""
    folder = tmp_path_factory.mktemp("my services")
    return {
        chosen: shutil.copytree(service, folder / " ".join(chosen))
        for chosen, service in baked.items()
    }


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def combination(request: pytest.FixtureRequest, baked: dict[tuple[str, str], Path]) -> Path:
    """Each combination in turn."""
    return baked[request.param]


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder for databases that is removed."""
    with machine.folder_for_databases() as folder:
        yield folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the checks of combinations run beside the tests, and ask last what became of them."""
    items.sort(key=lambda item: (bool(item.get_closest_marker("last")), asked(item) is not None))


def asked(item: pytest.Item) -> str | None:
    """Return the name of the checks that a test waits for."""
    given = getattr(item, "callspec", None)
    name: str | None = given.params.get("checks") if given else None
    return name


@pytest.fixture(scope="session")
def checking(
    request: pytest.FixtureRequest,
    source: Path,
    used: dict[tuple[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[None]]]:
    """The checks that the tests of this session ask for, under way."""
    ground = combinations.Ground(source, used, tmp_path_factory.mktemp("checks"))
    names = filter(None, map(asked, request.session.items))
    with combinations.checking(ground, names) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _begin_checking(request: pytest.FixtureRequest) -> None:
    """Begin with the first test, for the last ones take as long as all others."""
    if any(map(asked, request.session.items)):
        request.getfixturevalue("checking")
