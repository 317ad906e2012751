"""Write .env.example and the README's tables of settings from the settings themselves.

python -m slipway_kit.dev.settings_table

Both files hold a pair of marks for the settings of the kit and one for each feature that has some;
those of a feature that is gone go with it.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from slipway_kit.service.settings_table import Setting, by_owner, table

SERVICE = Path.cwd()
README = "<!-- {} -->"
ENV_EXAMPLE = "# {}"
BEGIN = "settings of {}: written by tools/settings_table.py"
END = "end of settings of {}"


class NoPlaceError(Exception):
    """A file has no marks for settings that exist; the text says which to add."""


def settings() -> dict[str, list[Setting]]:
    """Return every setting in the order of its group, by owner: the kit, then the features."""
    return by_owner(import_module("app.settings").Settings)


def examples(settings: Sequence[Setting]) -> str:
    """Return settings with their defaults as an environment file, all commented out."""
    return "\n".join(_examples(settings)) + "\n"


def _examples(settings: Sequence[Setting]) -> Iterator[str]:
    group = ""
    for each in settings:
        if each.group != group:
            yield f"\n# {each.group}"
            group = each.group
        yield f"\n# {each.description}"
        yield f"#{each.name}={each.default}"


def readme(text: str) -> str:
    """Return the README's `text` with fresh tables in it."""
    return _fill(text, README, table)


def env_example(text: str) -> str:
    """Return the `text` of .env.example with the settings as they are."""
    return _fill(text, ENV_EXAMPLE, examples)


def _fill(text: str, mark: str, write: Callable[[Sequence[Setting]], str]) -> str:
    """Write anew what stands between each pair of marks; raise `NoPlaceError` when one lacks."""
    owners = settings()

    def section(found: re.Match[str]) -> str:
        owner = found["owner"]
        if owner not in owners:
            return ""
        return f"{found['begin']}{write(owners[owner])}{found['end']}"

    begin = mark.format(BEGIN.format(r"(?P<owner>\w+)"))
    end = mark.format(END.format(r"(?P=owner)"))
    pattern = rf"^(?P<begin>{begin}\n).*?^(?P<end>{end}\n)"
    filled = re.sub(pattern, section, text, flags=re.MULTILINE | re.DOTALL)
    for owner in owners:
        if mark.format(BEGIN.format(owner)) not in filled:
            marks = f"{mark.format(BEGIN.format(owner))}\n{mark.format(END.format(owner))}"
            raise NoPlaceError(f"there is no place for the settings of {owner}; add\n{marks}")
    return filled


def write(service: Path) -> None:
    """Write both files."""
    for name, fresh in {"README.md": readme, ".env.example": env_example}.items():
        path = service / name
        try:
            path.write_text(fresh(path.read_text(encoding="utf-8")), encoding="utf-8")
        except NoPlaceError as error:
            sys.exit(f"error: {name}: {error}")


if __name__ == "__main__":
    write(SERVICE)
