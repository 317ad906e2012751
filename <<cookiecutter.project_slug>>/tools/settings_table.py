"""Write .env.example and the README's table of settings from the settings themselves.

python tools/settings_table.py
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

SERVICE = Path(__file__).resolve().parents[1]
BEGIN = "<!-- settings: written by tools/settings_table.py -->\n"
END = "<!-- end of settings -->"


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    description: str
    group: str


def settings() -> Iterator[Setting]:
    """Yield every setting in the order of its group."""
    # The script's own folder is on the path, the service's is not.
    sys.path.insert(0, str(SERVICE))
    from app.settings import GROUPS

    for group in GROUPS:
        for name, field in group.variables().items():
            info = group.model_fields[field]
            description = (info.description or "").replace("\n", " ")
            yield Setting(name, _default(info), description, (group.__doc__ or "").split("\n")[0])


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr | BaseModel):
        return str(value)
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def table() -> str:
    """Return the README's table."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.description} |"
        for each in settings()
    ]
    return "\n".join(rows) + "\n"


def env_example() -> str:
    """Return the text of .env.example: every setting with its default, commented out."""
    lines = ["# Copy to .env: `make run` and `make dev` read it; the environment wins over it."]
    group = ""
    for each in settings():
        if each.group != group:
            lines += ["", f"# {each.group}"]
            group = each.group
        lines += ["", f"# {each.description}", f"#{each.name}={each.default}"]
    return "\n".join(lines) + "\n"


def readme(text: str) -> str:
    """Return the README's `text` with a fresh table in it."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{end}{after}"


def write(service: Path) -> None:
    """Write both files."""
    path = service / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
    (service / ".env.example").write_text(env_example(), encoding="utf-8")


if __name__ == "__main__":
    write(SERVICE)
