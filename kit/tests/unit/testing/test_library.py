import pytest

from slipway_kit.dev import verify
from slipway_kit.server import protocol
from slipway_kit.testing import checks
from slipway_kit.testing.checks import library


def test_this_library_is_unedited_and_knows_the_versions_that_are_installed() -> None:
    assert checks.kit() == []


def test_an_edited_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "problems", lambda: ["slipway_kit/clock.py was edited"])
    assert checks.kit() == ["slipway_kit/clock.py was edited"]


def test_a_version_whose_private_parts_are_not_known_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shortcuts = list(library._shortcuts())
    for module in (protocol, *shortcuts):
        monkeypatch.setattr(module, "supported", lambda: False)
    named = [fault.split()[0] for fault in checks.kit()]
    assert named == ["slipway_kit.server.protocol", *(each.__name__ for each in shortcuts)]
