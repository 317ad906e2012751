"""Every environment variable of a service, with its default and its meaning."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from slipway_kit.config.group import Group
from slipway_kit.service.settings import ServiceSettings

KIT = "kit"
SERVICE = "service"


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    description: str
    group: str


def show(settings: type[ServiceSettings]) -> int:
    """Print a table for each owner of settings; return the exit status."""
    for owner, found in by_owner(settings).items():
        print(f"Settings of {owner}\n\n{table(found)}")
    return 0


def by_owner(settings: type[ServiceSettings]) -> dict[str, list[Setting]]:
    """Return every setting in the order of its group: the kit's, the service's, each feature's."""
    found: dict[str, list[Setting]] = {}
    for group in settings.groups():
        owner = _owner(group, settings)
        title = (group.__doc__ or "").split("\n")[0]
        for name, field in group.variables().items():
            info = group.model_fields[field]
            description = (info.description or "").replace("\n", " ")
            setting = Setting(name, _default(info), description, title)
            found.setdefault(owner, []).append(setting)
    return found


def table(settings: Sequence[Setting]) -> str:
    """Return a table of settings in Markdown."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.description} |"
        for each in settings
    ]
    return "\n".join(rows) + "\n"


def _owner(group: type[Group], settings: type[ServiceSettings]) -> str:
    if group in ServiceSettings.fields().values():
        return KIT
    if group in settings.fields().values():
        return SERVICE
    return group.__module__.split(".")[-2]


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr | BaseModel):
        return str(value)
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
