"""What the parts of a new feature are called, and which names it cannot have.

`make feature NAME=visits`: folder, table and route are `visits`, a row is a `Visit`: NAME without
its final s, or what ONE says (`make feature NAME=people ONE=person`).
"""

import ast
import builtins
import keyword
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import Template

KIT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).with_name("files") / "feature"
# PostgreSQL cuts names after 63 bytes, and those of constraints are longer than the table's.
LONGEST = 30
WORD = re.compile(rf"[a-z][a-z0-9_]{{0,{LONGEST - 1}}}")
# They are no part of what a service runs.
TOOLS = {"dev", "testing"}


class Refused(Exception):
    """The command did nothing; the text says why, and what to do."""


@dataclass(frozen=True)
class Names:
    """A feature called `name`, and what `one` of its rows is called."""

    name: str
    one: str

    @classmethod
    def of(cls, name: str, one: str = "") -> "Names":
        """Return the names, or raise `Refused`."""
        names = cls(name, one or name.removesuffix("s") or name)
        names.check()
        return names

    @property
    def row_class(self) -> str:
        """Return the name of the class of a row."""
        return "".join(part.capitalize() for part in self.one.split("_"))

    @property
    def schemas(self) -> set[str]:
        """Return what the API's document calls what crosses the wire."""
        return {f"{self.row_class}{suffix}" for suffix in ("In", "Out", "Page")}

    @property
    def routes(self) -> set[str]:
        """Return the names of the routes."""
        return {f"list_{self.name}"} | {
            f"{verb}_{self.one}" for verb in ("add", "get", "replace", "remove")
        }

    @property
    def path(self) -> str:
        """Return the path of the routes below /api/v1."""
        return self.name.replace("_", "-")

    def render(self, template: str) -> str:
        """Return the text of one of the files in `TEMPLATES`."""
        words = {
            "name": self.name,
            "words": self.name.replace("_", " "),
            "path": self.path,
            "one": self.one,
            "word": self.one.replace("_", " "),
            "One": self.row_class,
        }
        text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        return Template(text).substitute(words)

    def check(self) -> None:
        """Raise `Refused` for a name that Python or the library has another meaning for."""
        for variable, word in (("NAME", self.name), ("ONE", self.one)):
            if not WORD.fullmatch(word):
                raise Refused(
                    f"{variable} is {word!r}: use {LONGEST} lower-case letters, digits and"
                    " underscores at most, a letter first, as in `make feature NAME=opening_hours`."
                )
        if taken := taken_by(self.name):
            raise Refused(f"NAME={self.name} is the name of {taken}: take another one.")
        for template in ("models", "schemas", "queries", "routes"):
            if again := _bound_twice(self.render(template)):
                raise Refused(
                    f"ONE={self.one} would hide {again} in {template}.py: take another word."
                )


def taken_by(name: str) -> str:
    """Return what else is called `name`, or nothing."""
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "a keyword of Python"
    if hasattr(builtins, name) or name in sys.stdlib_module_names:
        return "a part of Python"
    if name in kit_modules():
        return "a module of slipway_kit"
    return ""


def kit_modules() -> set[str]:
    """Return the names of the library's packages and modules, at any depth."""
    found = {path.relative_to(KIT) for path in KIT.rglob("*.py")}
    return {
        part.removesuffix(".py")
        for path in found
        if path.parts[0] not in TOOLS
        for part in path.parts
        if not part.startswith("_")
    }


def _bound_twice(text: str) -> str:
    """Return a name that a module's text gives two things at its top, or nothing."""
    bound = Counter(name for node in ast.parse(text).body for name in _bound(node))
    return next((name for name, times in bound.items() if times > 1), "")


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
