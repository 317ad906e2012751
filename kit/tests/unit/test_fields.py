"""The types of fields refuse what PostgreSQL cannot store, and nothing else."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from slipway_kit.fields import Id, Line, Moment, Text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[(kind, value) for kind in (Text, Line) for value in ("a\0b", "\0", "\ud800", 7)],
        *[(Line, value) for value in ("a\nb", "a\n", "\x7f", "\x85")],
        *[(Id, value) for value in (0, -1, 2**63, "x", 1.5)],
        (Moment, "0001-01-01T00:00:00+14:00"),
        (Moment, "9999-12-31T23:59:59-14:00"),
        (Moment, "2026-01-01T00:00:00"),
    ],
)
def test_what_postgresql_cannot_take_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[(kind, value) for kind in (Text, Line) for value in ("", "Größe 🎲", "a\u2028b")],
        *[(Text, value) for value in ("a\nb\n", "\t\x7f")],
        *[(Id, value) for value in (1, 2**63 - 1)],
    ],
)
def test_what_it_can_is_accepted(kind: Any, value: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == value


def test_a_moment_is_told_in_utc() -> None:
    found = TypeAdapter(Moment).validate_python("2026-01-01T00:00:00+02:00")
    assert found.isoformat() == "2025-12-31T22:00:00+00:00"
