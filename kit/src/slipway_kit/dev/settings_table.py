"""Write .env.example and the README's tables of settings from the settings themselves.

python -m slipway_kit.dev.settings_table

Both files hold a pair of marks for the settings of the kit and one for each feature that has some;
those of a feature that is gone go with it.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

SERVICE = Path.cwd()
KIT = "kit"
README = "<!-- {} -->"
ENV_EXAMPLE = "# {}"
BEGIN = "settings of {}: written by tools/settings_table.py"
END = "end of settings of {}"


class NoPlaceError(Exception):
    """A file has no marks for settings that exist; the text says which to add."""


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    description: str
    group: str


def settings() -> dict[str, list[Setting]]:
    """Return every setting in the order of its group, by owner: the kit, then the features."""
    service = import_module("app.settings")
    found: dict[str, list[Setting]] = {}
    for group in service.all_groups():
        owner = KIT if group in service.GROUPS else group.__module__.split(".")[-2]
        title = (group.__doc__ or "").split("\n")[0]
        for name, field in group.variables().items():
            info = group.model_fields[field]
            description = (info.description or "").replace("\n", " ")
            setting = Setting(name, _default(info), description, title)
            found.setdefault(owner, []).append(setting)
    return found


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr | BaseModel):
        return str(value)
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def table(settings: Sequence[Setting]) -> str:
    """Return a table of settings in Markdown."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.description} |"
        for each in settings
    ]
    return "\n".join(rows) + "\n"


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
