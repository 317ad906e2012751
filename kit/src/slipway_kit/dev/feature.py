"""Write a feature that passes every check, and take one back.

`make feature NAME=visits`, `make remove-feature NAME=visits` and `make remove-example` call it.
A feature is a folder with routes, queries, models and schemas, its line in app/enabled.py, tests,
and the revision that creates its table. A command that refuses has written nothing.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slipway_kit.dev import feature_removal, openapi, revisions
from slipway_kit.dev.feature_names import Names, Refused
from slipway_kit.dev.feature_removal import ENABLED, delete, delete_empty, line_of
from slipway_kit.dev.postgres import environment as with_database
from slipway_kit.dev.postgres_server import PostgresError

EXAMPLE = "shop"
VERSIONS = Path("migrations/versions")
PARTS = ("__init__", "models", "schemas", "queries", "routes")
END = "\n)\n"


def add(name: str, one: str = "") -> None:
    """Write a feature called `name`; a row of it is called `one`, by default without the s."""
    names = Names.of(name, one)
    folders = [Path("app/features", name), Path("tests", name)]
    for folder in folders:
        if folder.exists():
            raise Refused(f"{folder} is there already: take another NAME.")
    if not ENABLED.read_text(encoding="utf-8").endswith(END):
        raise Refused(f"{ENABLED} does not end with its list of features, one a line.")
    _refuse_names_of_the_api(names)
    os.environ |= with_database(Path.cwd())
    _refuse_database(names)
    with _undone_on_error([ENABLED, openapi.SNAPSHOT, *folders]):
        _write(names)
        revision = _write_revision(names)
        openapi.write()
    print(f"Wrote {folders[0]}, {folders[1]} and {revision}: `make migrate` applies it.")


def remove(name: str) -> None:
    """Take a feature back, whose revisions must be the newest ones."""
    _removed(name, newest=True)


def remove_example() -> None:
    """Take the example back; revisions of other features that build on its own stay."""
    _removed(EXAMPLE, newest=False)


def _removed(name: str, *, newest: bool) -> None:
    os.environ |= with_database(Path.cwd())
    print(f"Removed {', '.join(feature_removal.remove(name, newest=newest))}.")


def _refuse_names_of_the_api(names: Names) -> None:
    """Raise `Refused` when the API's document has one of the names already.

    Two schemas of one name would be renamed for every client, and two routes of one name would lead
    to each other's locations.
    """
    document = json.loads(openapi.document())
    operations = [each for path in document["paths"].values() for each in path.values()]
    taken = names.schemas & document["components"]["schemas"].keys()
    taken |= names.routes & {each["operationId"] for each in operations}
    taken |= {f"/api/v1/{names.path}"} & document["paths"].keys()
    if taken:
        raise Refused(f"the API has {min(taken)} already: take another NAME, or another ONE.")


def _refuse_database(names: Names) -> None:
    """Bring the database to the newest schema; raise `Refused` when the table does not fit in."""
    revisions.newest_first()
    _python("app", "migrate")
    if revisions.exists(names.name):
        raise Refused(f"the database has a table {names.name} already: take another NAME.")
    if found := revisions.differences():
        raise Refused(
            f"models and database differ already ({', '.join(found)}), and the new revision would"
            " hold that too: write the revision that is missing first."
        )


def _write(names: Names) -> None:
    folder, tests = Path("app/features", names.name), Path("tests", names.name)
    folder.mkdir()
    tests.mkdir(parents=True)
    for part in PARTS:
        (folder / f"{part}.py").write_text(names.render(part), encoding="utf-8")
    (tests / "test_routes.py").write_text(names.render("test_routes"), encoding="utf-8")
    _python("ruff", "check", "--quiet", "--fix", "--exit-zero", str(folder), str(tests))
    _python("ruff", "format", "--quiet", str(folder), str(tests))
    enabled = ENABLED.read_text(encoding="utf-8").removesuffix(END)
    ENABLED.write_text(f"{enabled}\n{line_of(names.name)})\n", encoding="utf-8")


def _write_revision(names: Names) -> Path:
    before = set(VERSIONS.glob("*.py"))
    message = f"Create the table {names.name}"
    try:
        _python("alembic", "revision", "--autogenerate", "--message", message)
    except BaseException:
        for path in set(VERSIONS.glob("*.py")) - before:
            delete(path)
            delete_empty(VERSIONS)
        raise
    (revision,) = set(VERSIONS.glob("*.py")) - before
    return revision


@contextmanager
def _undone_on_error(paths: list[Path]) -> Iterator[None]:
    """Give files back their content, and delete what was not there, when the block fails."""
    before = {path: path.read_bytes() for path in paths if path.is_file()}
    try:
        yield
    except BaseException:
        for path in paths:
            if path in before:
                path.write_bytes(before[path])
            else:
                delete(path)
        raise


def _python(module: str, *arguments: str) -> None:
    """Run a module to its end; raise `Refused` with the last thing that it said when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()] or [f"{module} failed"]
        raise Refused(said[-1].removeprefix("error: "))


def main(command: str, environment: Mapping[str, str]) -> None:
    """Run one command."""
    name, one = environment.get("NAME", ""), environment.get("ONE", "")
    try:
        if command == "add":
            add(name, one)
        elif command == "remove":
            remove(name)
        else:
            remove_example()
    except (Refused, PostgresError) as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main(sys.argv[1], os.environ)
