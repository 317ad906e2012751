"""What belongs to a feature, and taking all of it back: files, line, revisions and database."""

import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from alembic.script import Script

from slipway_kit.db import DatabaseSettings, Model
from slipway_kit.dev import openapi, revisions
from slipway_kit.dev.feature_names import Refused
from slipway_kit.service import import_models

ENABLED = Path("app/enabled.py")
# Where lines of a feature stand between two marks.
MARKED = ("*.md", "*.toml", "docs/*.md")
LOCAL = {"localhost", "127.0.0.1", "::1"}
NOT_SEARCHED = {"slipway_kit", "build", "node_modules"}


def line_of(name: str) -> str:
    """Return a feature's line in app/enabled.py."""
    return f'    "{name}",\n'


def paths_of(name: str) -> list[Path]:
    """Return the folders and files that are a feature's alone, but for its revisions."""
    found = [Path("app/features", name), Path("docs", f"contract-{name}.md")]
    found += sorted(path for path in Path("tests").rglob(name) if path.is_dir())
    return [path for path in found if path.exists()]


def without(name: str, text: str) -> str:
    """Return a page without what stands between a feature's marks, and without its promises."""
    begin, end = (rf"^(?:<!--|#) {which} of {name}(?: -->)?\n" for which in ("begin", "end"))
    text = re.sub(rf"(?ms){begin}.*?{end}\n?", "", text)
    return re.sub(rf"(?m)^\|.*`tests/{name}/.*\n", "", text)


def remove(name: str, *, newest: bool) -> list[str]:
    """Take a feature back and return what went; raise `Refused` before anything is done.

    With `newest` its revisions must be the newest ones; otherwise those of other features that
    build on them are changed to build on what is left.
    """
    enabled = ENABLED.read_text(encoding="utf-8")
    if line_of(name) not in enabled:
        raise Refused(f"there is no feature {name}: {ENABLED} has no line {line_of(name).strip()}")
    paths = paths_of(name)
    _refuse_imports(name, paths)
    tables = _tables(name)
    line = revisions.newest_first()
    doomed = _doomed(line, tables)
    others = [each for each in line if each not in doomed]
    if newest:
        _refuse_builders(line, doomed)
    texts = revisions.pointed_past(doomed, others)
    texts |= _unmarked(name, paths)
    if doomed:
        _refuse_remote()
        revisions.take_back(doomed)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    ENABLED.write_text(enabled.replace(line_of(name), ""), encoding="utf-8")
    paths += [Path(each.path).relative_to(Path.cwd()) for each in doomed]
    for path in paths:
        delete(path)
        delete_empty(path.parent)
    openapi.write()
    return [str(path) for path in paths]


def _unmarked(name: str, paths: list[Path]) -> dict[Path, str]:
    found = {path for pattern in MARKED for path in Path().glob(pattern) if path.is_file()}
    texts = {path: path.read_text(encoding="utf-8") for path in found - set(paths)}
    shorter = {path: without(name, text) for path, text in texts.items()}
    return {path: text for path, text in shorter.items() if text != texts[path]}


def _refuse_imports(name: str, paths: list[Path]) -> None:
    """Raise `Refused` when code outside of the feature's own folders imports it."""
    imported = re.compile(
        rf"^\s*(?:from|import) app\.features\.{name}\b"
        rf"|^\s*from app\.features import .*\b{name}\b",
        re.MULTILINE,
    )
    for path in _sources():
        own = any(each == path or each in path.parents for each in paths)
        if not own and imported.search(path.read_text(encoding="utf-8")):
            raise Refused(f"{path} imports the feature {name}: take that out first.")


def _sources() -> Iterator[Path]:
    for top in sorted(Path().iterdir()):
        if top.is_dir() and top.name not in NOT_SEARCHED and not top.name.startswith("."):
            yield from sorted(top.rglob("*.py"))
        elif top.suffix == ".py":
            yield top


def _tables(name: str) -> set[str]:
    """Return the tables of a feature's models; raise `Refused` when others refer to them."""
    module = f"app.features.{name}.models"
    if find_spec(module) is None:
        return set()
    import_models(import_module("app.enabled").FEATURES)
    mappers = Model.registry.mappers
    own = {str(each.local_table) for each in mappers if each.class_.__module__ == module}
    for table in Model.metadata.tables.values():
        for key in table.foreign_keys:
            target = key.target_fullname.rpartition(".")[0]
            if target in own and table.name not in own:
                raise Refused(
                    f"the table {table.name} refers to {target}: take that foreign key out first."
                )
    return own


def _doomed(line: list[Script], own: set[str]) -> list[Script]:
    """Return the revisions that change nothing but the tables `own`, the newest first."""
    known = own | set(Model.metadata.tables)
    known |= {table for each in line for table in revisions.created_by(each)}
    named = {each.revision: revisions.tables_of(each, known) for each in line}
    for each in line:
        found = named[each.revision]
        if found & own and found - own:
            raise Refused(
                f"{Path(each.path).name} changes {', '.join(sorted(found))} in one revision:"
                f" take {', '.join(sorted(found & own))} out of it first."
            )
    return [each for each in line if named[each.revision] & own]


def _refuse_builders(line: list[Script], doomed: list[Script]) -> None:
    if doomed and line[: len(doomed)] != doomed:
        newer = line[line.index(doomed[-1]) - 1]
        raise Refused(
            f"{Path(newer.path).name} builds on {Path(doomed[-1].path).name}:"
            " write a revision that drops the table instead, and delete the folders by hand."
        )


def _refuse_remote() -> None:
    host = DatabaseSettings().address.host
    if host and not host.startswith("/") and host not in LOCAL:
        raise Refused(
            f"DATABASE_URL names a database on {host}, and tables would be dropped there:"
            " unset it, or name one on this machine."
        )


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def delete_empty(folder: Path) -> None:
    """Delete a folder that nothing is left in but bytecode, and those that it was alone in."""
    if not {each.name for each in folder.iterdir()} - {"__pycache__"}:
        shutil.rmtree(folder)
        delete_empty(folder.parent)
