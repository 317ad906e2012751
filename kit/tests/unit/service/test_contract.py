"""Every promise of the contracts, the library's and the service's, has the test that it names."""

from pathlib import Path

import pytest

from kit.tests.faults.test_faults import FAULTS
from kit.tests.support.paths import REPOSITORY, SERVICE
from slipway_kit.testing.checks import contract

KIT = REPOSITORY / "kit"
PAGES = {KIT / "docs/contract.md": KIT, SERVICE / "docs/contract.md": SERVICE}


def test_every_promise_has_its_test() -> None:
    for page, root in PAGES.items():
        assert contract.promises(page, root) == []
    promised = list(contract.rows((KIT / "docs/contract.md").read_text(encoding="utf-8")))
    assert len(promised) > 300


@pytest.mark.parametrize(
    "test",
    ["", "`tests/unit/test_x.py::test_gone`", "`tests/unit/gone.py::test_x`", "by hand"],
)
def test_a_promise_without_a_test_is_found(tmp_path: Path, test: str) -> None:
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/unit/test_x.py").write_text("def test_x(): pass\n")
    page = tmp_path / "contract.md"
    kept = "| promise | test |\n|---|---|\n| Kept. | `tests/unit/test_x.py::test_x` |\n"
    page.write_text(f"{kept}| Broken. | {test} |\n")
    assert contract.promises(page, tmp_path) == ["contract.md has no test for: Broken."]


def test_the_page_says_of_every_fault_what_clients_see() -> None:
    page = (KIT / "docs/how-it-works.md").read_text(encoding="utf-8")
    for name, fault in FAULTS.items():
        assert f"| {name} | {fault.goal} |" in page
