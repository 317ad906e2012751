"""What `make feature` writes and refuses; tests/features.py does it in a baked service."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory

from kit.tests.support.paths import SERVICE
from slipway_kit.dev import feature, feature_removal, revisions
from slipway_kit.dev.feature_names import LONGEST, TEMPLATES, Names, Refused

ENABLED = 'FEATURES: tuple[str, ...] = (\n    # One line each.\n    "shop",\n)\n'


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with as much of a service as is read before the service runs."""
    for folder in ("app/features/shop", "docs", "migrations/versions", "tests/shop"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "app/enabled.py").write_text(ENABLED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def revision(service: Path, number: int, upgrade: str, *, below: int = 0) -> Script:
    """Write a revision and return it."""
    under = f'"{below}"' if below else "None"
    (service / f"migrations/versions/{number}.py").write_text(
        f'"""About games and visits."""\n\nrevision = "{number}"\ndown_revision = {under}\n\n\n'
        f"def upgrade() -> None:\n    {upgrade}\n"
    )
    found = ScriptDirectory("migrations").get_revision(str(number))
    assert isinstance(found, Script)
    return found


@pytest.mark.parametrize(
    ("name", "one", "row", "path"),
    [
        ("visits", "", "Visit", "visits"),
        ("opening_hours", "", "OpeningHour", "opening-hours"),
        ("weather", "", "Weather", "weather"),
        ("people", "person", "Person", "people"),
    ],
)
def test_a_row_is_called_by_the_name_without_its_s_or_as_one_says(
    name: str, one: str, row: str, path: str
) -> None:
    names = Names.of(name, one)
    assert (names.row_class, names.path) == (row, path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "NAME is ''"),
        ("Visits", "a letter first"),
        ("opening-hours", "lower-case letters, digits and underscores"),
        ("_visits", "a letter first"),
        ("2nd", "a letter first"),
        ("größen", "lower-case letters"),
        ("visits\n", "lower-case letters"),
        ("v" * (LONGEST + 1), f"{LONGEST} lower-case letters"),
        ("class", "a keyword of Python"),
        ("match", "a keyword of Python"),
        ("list", "a part of Python"),
        ("calendar", "a part of Python"),
        ("db", "a module of slipway_kit"),
        ("work_queue", "a module of slipway_kit"),
        ("models", "ONE=model would hide Model in models.py"),
        ("paths", "ONE=path would hide Path in routes.py"),
    ],
)
def test_a_name_that_means_something_else_is_one_sentence(name: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        Names.of(name)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_word_for_one_that_is_none_is_one_sentence() -> None:
    with pytest.raises(Refused, match="ONE is 'A Person'"):
        Names.of("people", "A Person")


@pytest.mark.parametrize("name", ["a", "visits", "x" * LONGEST])
def test_what_is_written_has_the_style_of_the_service(name: str, tmp_path: Path) -> None:
    names = Names.of(name)
    written = []
    for template in TEMPLATES.iterdir():
        tests = template.stem.startswith("test_")
        folder = tmp_path / ("tests" if tests else "app/features") / name
        folder.mkdir(parents=True, exist_ok=True)
        written.append(folder / f"{template.stem}.py")
        written[-1].write_text(names.render(template.stem))
    (tmp_path / "pyproject.toml").write_bytes((SERVICE / "pyproject.toml").read_bytes())
    for command in (["check", "--fix", "--exit-zero"], ["format"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *written],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_a_feature_that_is_there_is_one_sentence_and_nothing_is_written(service: Path) -> None:
    before = {path: path.is_file() and path.read_bytes() for path in service.rglob("*")}
    with pytest.raises(Refused, match="app/features/shop is there already"):
        feature.add("shop")
    (service / "tests/visits").mkdir()
    with pytest.raises(Refused, match="tests/visits is there already"):
        feature.add("visits")
    (service / "tests/visits").rmdir()
    (service / "app/enabled.py").write_text('FEATURES = ("shop",)\n')
    with pytest.raises(Refused, match="does not end with its list of features"):
        feature.add("visits")
    (service / "app/enabled.py").write_text(ENABLED)
    assert {path: path.is_file() and path.read_bytes() for path in service.rglob("*")} == before


def test_a_command_that_fails_halfway_leaves_what_was_there(service: Path) -> None:
    made = service / "app/features/visits"
    enabled = service / "app/enabled.py"

    def write_half() -> None:
        made.mkdir()
        (made / "models.py").touch()
        enabled.write_text("")
        raise KeyboardInterrupt

    kept = feature._undone_on_error([enabled, made, service / "never"])
    with pytest.raises(KeyboardInterrupt), kept:
        write_half()
    assert not made.exists()
    assert enabled.read_text() == ENABLED


def test_a_revision_that_alembic_could_not_finish_is_taken_back(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alembic(*_: str) -> None:
        (service / "migrations/versions/half.py").touch()
        raise Refused("no")

    monkeypatch.setattr(feature, "_python", alembic)
    with pytest.raises(Refused, match="no"):
        feature._write_revision(Names.of("visits"))
    assert not (service / "migrations").exists()


def test_what_is_not_served_cannot_be_removed(service: Path) -> None:
    with pytest.raises(Refused, match="there is no feature visits"):
        feature_removal.remove("visits", newest=True)


@pytest.mark.parametrize(
    "line", ["import app.features.shop.queries", "from app.features import shop as other"]
)
def test_a_feature_that_others_import_stays(service: Path, line: str) -> None:
    (service / "app/features/shop/routes.py").write_text("import app.features.shop\n")
    (service / "app/main.py").write_text("from app.features.shopping import x\n")
    (service / "tests/test_all.py").write_text(f"import os\n{line}\n")
    with pytest.raises(Refused, match=r"tests/test_all\.py imports the feature shop"):
        feature_removal.remove("shop", newest=True)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.0.0.1", True), ("[::1]", True), ("", True), ("db.example", False)],
)
def test_no_table_is_dropped_in_a_database_on_another_machine(
    host: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me@{host}/name")
    with nullcontext() if local else pytest.raises(Refused, match=r"a database on db\.example,"):
        feature_removal._refuse_remote()


PAGE = """# Service

<!-- begin of shop -->
## The shop
<!-- end of shop -->

| promise | test |
|---|---|
| A name is taken once. | `tests/shop/test_games.py::test_a_name` |
| It starts. | `tests/test_service.py::test_it_starts` |
"""


def test_a_page_loses_the_section_and_the_promises_of_a_feature_that_goes() -> None:
    left = PAGE.partition("<!--")[0] + PAGE.partition("end of shop -->\n\n")[2]
    left = left.replace("| A name is taken once. | `tests/shop/test_games.py::test_a_name` |\n", "")
    assert feature_removal.without("shop", PAGE) == left
    assert feature_removal.without("shopping", PAGE) == PAGE


def test_files_that_are_no_pages_are_not_read(service: Path) -> None:
    (service / ".coverage").write_bytes(b"\xff")
    (service / "README.md").write_text("<!-- begin of shop -->\nGames.\n<!-- end of shop -->\n")
    assert feature_removal._unmarked("shop", []) == {Path("README.md"): ""}


def test_a_file_of_settings_loses_what_stands_between_the_marks() -> None:
    text = "A=1\n# begin of shop\n#SHOP_B=2\n# end of shop\nC=3\n"
    assert feature_removal.without("shop", text) == "A=1\nC=3\n"


@pytest.mark.parametrize(
    ("upgrade", "named"),
    [
        ('op.create_table("games", sa.Column("visits", sa.String(9)))', {"games"}),
        ('op.add_column("games", sa.Column("visits", sa.BigInteger()))', {"games"}),
        ('op.drop_column("games", "visits")', {"games"}),
        ('op.create_index("ix_x", "games", ["visits"])', {"games"}),
        ('op.drop_index(op.f("ix_x"), table_name="games")', {"games"}),
        ('op.rename_table("games", "visits")', {"games", "visits"}),
        ('op.execute("UPDATE games SET name = trim(name)")', {"games"}),
        ('op.execute(f"DELETE FROM games WHERE id > {LAST}")', {"games"}),
        ('op.execute(sa.text("SELECT 1 FROM visits"))', {"visits"}),
        (
            'op.add_column("visits", sa.Column("game", sa.ForeignKey("games.id")))',
            {"visits", "games"},
        ),
        ('op.create_foreign_key("fk", "visits", "games", ["game"], ["id"])', {"visits", "games"}),
        ('op.create_table("other", sa.Column("id"), comment="not the games")', set()),
        ("pass", set()),
    ],
)
def test_the_tables_of_a_revision_are_those_that_its_operations_name(
    upgrade: str, named: set[str], service: Path
) -> None:
    found = revision(service, 1, upgrade)
    assert revisions.tables_of(found, {"games", "visits"}) == named


def test_a_revision_on_a_removed_one_builds_on_what_is_left_below(service: Path) -> None:
    first = revision(service, 1, 'op.create_table("visits")')
    second = revision(service, 2, 'op.create_table("games")', below=1)
    third = revision(service, 3, 'op.drop_column("games", "x")', below=2)
    fourth = revision(service, 4, 'op.drop_column("visits", "x")', below=3)
    assert revisions.created_by(second) == {"games"}
    ((path, text),) = revisions.pointed_past([third, second], [fourth, first]).items()
    assert path.name == "4.py"
    assert text == path.read_text().replace('down_revision = "3"', 'down_revision = "1"')
    ((_, text),) = revisions.pointed_past([third, second, first], [fourth]).items()
    assert "\ndown_revision = None\n" in text


def test_a_line_of_revisions_that_parts_is_one_sentence(service: Path) -> None:
    revision(service, 1, "pass")
    revision(service, 2, "pass", below=1)
    assert [each.revision for each in revisions.newest_first()] == ["2", "1"]
    revision(service, 3, "pass", below=1)
    with pytest.raises(Refused, match=r"1\.py is where lines of revisions meet or part"):
        revisions.newest_first()


def test_a_revision_on_one_that_is_not_there_is_one_sentence(service: Path) -> None:
    for number, below in ((1, 0), (2, 1)):
        revision(service, number, "pass", below=below)
    (service / "migrations/versions/1.py").unlink()
    with pytest.raises(Refused, match=r"migrations/versions cannot be read: .*1 .*is not present"):
        revisions.newest_first()
