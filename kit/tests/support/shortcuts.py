"""A service that lacks the folder slipway_kit/fast."""

import sys

import pytest


def hide_shortcuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have apps that are created from now on find no shortcuts; what the process has stays."""
    monkeypatch.setitem(sys.modules, "slipway_kit.fast", None)
