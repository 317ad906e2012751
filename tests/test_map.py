"""The map of the library shows its imports as they are."""

from tools import library_map


def test_the_map_is_that_of_the_source() -> None:
    written = library_map.PAGE.read_text(encoding="utf-8")
    assert written == library_map.page(written), "run `make map`"


def test_an_arrow_that_follows_from_others_is_not_drawn() -> None:
    arrows = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set[str](), "d": {"c"}}
    assert library_map.needed(arrows) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": {"c"}}
