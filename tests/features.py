"""`make feature` writes what passes every check, and what takes it back leaves nothing behind."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import baking, machine

# What make, the checkers and Python leave; git ignores it.
CACHES = {".coverage", "__pycache__"}
TABLES = (
    "import asyncio, asyncpg, sys\n"
    "async def main():\n"
    "    connection = await asyncpg.connect(sys.argv[1])\n"
    '    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1",'
    ' "public")\n'
    "    print(*sorted(row[0] for row in rows))\n"
    "asyncio.run(main())\n"
)


def content(service: Path) -> dict[str, bytes]:
    """Return every file of a service by its path, but for caches."""
    return {
        name: text
        for name, text in baking.files(service).items()
        if not any(part in CACHES or part.endswith("_cache") for part in Path(name).parts)
    }


def tables(service: Path, env: Mapping[str, str]) -> list[str]:
    """Return the tables of the service's local database."""
    url = baking.run(
        *(sys.executable, "-m", "slipway_kit.dev.postgres", "url"), cwd=service, env=env
    )
    return baking.run(sys.executable, "-c", TABLES, url.strip(), cwd=service, env=env).split()


def refused(sentence: str, *arguments: str, service: Path, env: Mapping[str, str]) -> None:
    """Run a target that must refuse with one sentence and leave every file as it was."""
    before = content(service)
    with pytest.raises(AssertionError, match=f"ended so:\nerror: {sentence}\n"):
        baking.make(*arguments, cwd=service, env=env)
    assert content(service) == before


@contextmanager
def database_of(service: Path) -> Iterator[dict[str, str]]:
    """Give the environment in which a service has a local database of its own."""
    with machine.folder_for_databases() as state:
        env = baking.environment(TMPDIR=str(state), XDG_STATE_HOME=str(state))
        try:
            yield env
        finally:
            baking.make("db-stop", cwd=service, env=env)


def a_new_feature_passes_every_check_and_goes_without_a_trace(source: Path, folder: Path) -> None:
    """Write one into a service without the example, and take it back."""
    service = baking.bake(source, folder / "a b", example="none")
    before = content(service)
    with database_of(service) as env:
        baking.make("NAME=opening_hours", "feature", "lint", "types", "test", cwd=service, env=env)
        refused(
            r"app/features/opening_hours is there already: .*",
            *("NAME=opening_hours", "feature"),
            service=service,
            env=env,
        )
        baking.make("migrate", cwd=service, env=env)
        assert tables(service, env) == ["alembic_version", "opening_hours"]
        baking.make("NAME=opening_hours", "remove-feature", cwd=service, env=env)
        assert tables(service, env) == ["alembic_version"]
        assert content(service) == before


def the_example_goes_though_a_feature_came_after_it(source: Path, folder: Path) -> None:
    """Write a feature into a service with the example, and remove the older one of the two."""
    service = baking.bake(source, folder / "shop")
    without = content(baking.bake(source, folder / "none", example="none"))
    with database_of(service) as env:

        def make(*arguments: str) -> None:
            baking.make(*arguments, cwd=service, env=env)

        make("NAME=people", "ONE=person", "feature", "migrate")
        refuse_what_cannot_be_done(service, env)
        make("remove-example")
        assert tables(service, env) == ["alembic_version", "people"]
        make("lint", "test", 'ARGS=-k "people or migrations or document"')
        make("NAME=people", "remove-feature")
        assert tables(service, env) == ["alembic_version"]
        assert content(service) == without


def refuse_what_cannot_be_done(service: Path, env: Mapping[str, str]) -> None:
    """Try what would break the service or its database, in one whose newest feature is `people`."""
    (revision,) = service.glob("migrations/versions/*create_the_table_people*.py")
    models = service / "app/features/people/models.py"

    def no(sentence: str, *arguments: str, database: str = "") -> None:
        more = {"DATABASE_URL": database} if database else {}
        refused(sentence, *arguments, service=service, env={**env, **more})

    no("the API has GameIn already: .*", "NAME=game", "feature")
    no(f"{revision.name} builds on 0001_games.py: .*", "NAME=shop", "remove-feature")
    no("the database does not answer: .*", "remove-example", database="postgresql://127.0.0.1:1/x")
    key = r"\n    game: Mapped[int] = mapped_column(ForeignKey('games.id'))"
    with (
        edited(models, "String\n", "String, ForeignKey\n"),
        edited(models, r"unique=True\)", rf"\g<0>{key}"),
    ):
        differ = r"models and database differ already \(add_column people game, .*"
        no(differ, "NAME=visits", "feature")
        no("the table people refers to games: .*", "remove-example")
    with edited(revision, r'op.drop_table\("people"\)', '\\g<0>; op.drop_column("games", "x")'):
        no(f"{revision.name} changes games, people in one revision: .*", "remove-example")


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """Replace a pattern in a file within this block."""
    text = path.read_text()
    path.write_text(re.sub(old, new, text))
    assert path.read_text() != text
    yield
    path.write_text(text)
