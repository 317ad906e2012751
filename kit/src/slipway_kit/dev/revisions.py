"""The revisions of a service's schema: which belong to a feature, and how they are taken back."""

import ast
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.migrations import MigrationError
from slipway_kit.dev.feature_names import Refused

FOLDER = Path("migrations")
# They say which table they change first, most others second.
TABLE_FIRST = {"create_table", "drop_table", "add_column", "drop_column", "alter_column"}
TABLE_FIRST |= {"batch_alter_table", "create_table_comment", "table", "Table"}
WORK = Callable[[MigrationContext], None]


def newest_first() -> list[Script]:
    """Return every revision; raise `Refused` when they are no single line."""
    scripts = _scripts()
    try:
        with warnings.catch_warnings(action="error"):
            found = list(scripts.walk_revisions())
    except (CommandError, UserWarning) as error:
        raise Refused(f"migrations/versions cannot be read: {error}.") from None
    for each in found:
        if isinstance(each.down_revision, tuple) or len(each.nextrev) > 1 or each.dependencies:
            raise Refused(
                f"{Path(each.path).name} is where lines of revisions meet or part:"
                " this command knows one line only, so change the revisions by hand."
            )
    if len(scripts.get_heads()) > 1:
        raise Refused("there are several heads: `alembic merge heads` first.")
    return found


def below(revision: Script) -> str | None:
    """Return the revision that this one builds on, in a single line."""
    return revision.down_revision if isinstance(revision.down_revision, str) else None


def tables_of(revision: Script, known: Collection[str]) -> set[str]:
    """Return which of the tables `known` a revision names."""
    tree = ast.parse(Path(revision.path).read_text(encoding="utf-8"))
    words = set(_words(tree))
    return {
        table for table in known if table in words or any(_in_sql(table, word) for word in words)
    }


def created_by(revision: Script) -> set[str]:
    """Return the tables that a revision creates."""
    tree = ast.parse(Path(revision.path).read_text(encoding="utf-8"))
    return {
        str(call.args[0].value)
        for call in _calls(tree)
        if _called(call) == "create_table" and call.args and isinstance(call.args[0], ast.Constant)
    }


def _in_sql(table: str, word: str) -> bool:
    """Tell whether SQL, or a column such as `games.id`, names the table."""
    return word.startswith(f"{table}.") or (
        " " in word and re.search(rf"\b{re.escape(table)}\b", word) is not None
    )


def _words(tree: ast.Module) -> Iterator[str]:
    """Yield the strings that may name a table: of operations, of SQL, of foreign keys."""
    for call in _calls(tree):
        direct = [*call.args, *(each.value for each in call.keywords if each.arg != "comment")]
        if _called(call) in TABLE_FIRST:
            direct = direct[:1]
        inside = direct if _called(call) not in {"Column", "f"} else []
        yield from (each for node in inside for each in _strings([node]))
        # A column of another table, in whatever it stands.
        yield from (each for each in _strings(ast.walk(call)) if "." in each and " " not in each)


def _strings(nodes: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            yield " ".join(_strings(node.values))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def in_database(work: WORK) -> None:
    """Do `work` on the service's database, as alembic's own commands do: under the same lock.

    `op` works meanwhile. Raises `Refused` when the database does not answer or is at a revision
    that is not here.
    """

    def once(_: object, context: MigrationContext) -> list[Any]:
        work(context)
        return []

    scripts = _scripts()
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    try:
        with EnvironmentContext(config, scripts, fn=once):
            scripts.run_env()
    except DatabaseUnavailable as error:
        raise Refused(f"the database does not answer: {error.__cause__}.") from error
    except DBAPIError as error:
        raise Refused(f"the database refused {error.statement!r}: {error.orig}.") from error
    except (CommandError, MigrationError) as error:
        raise Refused(f"{error}.") from error


def differences() -> list[str]:
    """Return where the database differs from the models, as alembic puts it."""
    found: list[str] = []

    def compare(context: MigrationContext) -> None:
        metadata = context.opts["target_metadata"]
        found.extend(_sentence(each) for each in compare_metadata(context, metadata))

    in_database(compare)
    return found


def _sentence(difference: Any) -> str:
    """Return one difference in few words: what to do, and where."""
    first = difference[0] if isinstance(difference, list) else difference
    named = [getattr(each, "name", each) for each in first[1:]]
    return " ".join(str(each) for each in (first[0], *named) if isinstance(each, str))


def exists(table: str) -> bool:
    """Tell whether the database has something that is called `table`."""
    found: list[object] = []

    def look(context: MigrationContext) -> None:
        query = text("SELECT to_regclass(:name)").bindparams(name=table)
        found.append(context.connection.scalar(query) if context.connection else None)

    in_database(look)
    return found != [None]


def take_back(doomed: list[Script]) -> None:
    """Undo revisions in the database, the newest first; those in between stay as they are.

    What the database never had is left out. All of it is one transaction.
    """

    def downgrade(context: MigrationContext) -> None:
        at = context.get_current_heads()
        applied = {each.revision for each in _scripts().iterate_revisions(at, "base")} if at else {}
        with context.begin_transaction(_per_migration=True):
            for each in doomed:
                if each.revision in applied:
                    each.module.downgrade()
                    _leave(context, each)

    in_database(downgrade)


def _leave(context: MigrationContext, revision: Script) -> None:
    """Put the database at the revision below, if it is at this one."""
    if context.connection is None:
        return
    values = {"this": revision.revision, "below": below(revision)}
    change = (
        "UPDATE alembic_version SET version_num = :below WHERE version_num = :this"
        if values["below"]
        else "DELETE FROM alembic_version WHERE version_num = :this"
    )
    context.connection.execute(text(change), values)


def pointed_past(doomed: list[Script], others: list[Script]) -> dict[Path, str]:
    """Return the new text of each revision that builds on a doomed one: on what that builds on."""
    gone = {each.revision: below(each) for each in doomed}
    texts: dict[Path, str] = {}
    for each in others:
        new = old = below(each)
        while new in gone:
            new = gone[new]
        if new != old:
            path = Path(each.path)
            line = rf"(?m)^(down_revision\b.*=) ['\"]{re.escape(str(old))}['\"]$"
            written = f'"{new}"' if new else "None"
            changed, found = re.subn(line, rf"\1 {written}", path.read_text("utf-8"))
            if not found:
                raise Refused(f'{path.name} has no line `down_revision = "{old}"` to change.')
            texts[path] = changed
    return texts


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(FOLDER))
