"""What a bake holds: everything that was chosen and nothing else, always the same."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import baking

LEFTOVER = re.compile(r"cookiecutter[.\[]|<%|%>|<<|# <#|#>")


def test_nothing_is_left_unrendered_and_nothing_is_empty(combination: Path) -> None:
    for path in combination.rglob("*"):
        assert not path.is_symlink(), path
        if path.is_dir():
            assert any(path.iterdir()), f"{path} is empty"
        else:
            found = LEFTOVER.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path} holds {found}"
            assert path.stat().st_size or path.name == "py.typed", f"{path} is empty"


def test_only_the_chosen_pipeline_and_example_are_there(
    baked: dict[tuple[str, str], Path],
) -> None:
    for (example, ci), service in baked.items():
        assert (service / ".github").exists() == (ci == "github")
        assert (service / ".gitlab-ci.yml").exists() == (ci == "gitlab")
        assert (service / "app/features/shop").exists() == (example == "shop")
        source_files = [path.read_text(encoding="utf-8") for path in baking.walk(service / "app")]
        named = any(re.search(r'features\.shop|"shop"', text) for text in source_files)
        assert named == (example == "shop")


def test_the_defaults_are_the_shop_on_github(
    source: Path, tmp_path: Path, baked: dict[tuple[str, str], Path]
) -> None:
    assert baking.files(baking.bake(source, tmp_path)) == baking.files(baked["shop", "github"])


def test_two_bakes_hold_the_same_bytes(
    source: Path, tmp_path: Path, baked: dict[tuple[str, str], Path]
) -> None:
    for (example, ci), service in baked.items():
        again = baking.bake(source, tmp_path / f"{example}-{ci}", example=example, ci=ci)
        assert baking.files(again) == baking.files(service)


def test_a_used_work_tree_bakes_what_a_fresh_clone_does(
    source: Path, tmp_path: Path, baked: dict[tuple[str, str], Path]
) -> None:
    used = tmp_path / "used"
    shutil.copytree(source, used, symlinks=True)
    for folder in (used / baking.SERVICE, used / baking.SERVICE / "app", used / "hooks"):
        litter(folder)
    assert baking.files(baking.bake(used, tmp_path / "out")) == baking.files(
        baked["shop", "github"]
    )


def litter(folder: Path) -> None:
    """Leave behind what a day's work leaves, with text that is no template."""
    text = "x = 1 << 3\n# <% nonsense\n"
    names = [
        ".venv/bin/activate",
        ".mypy_cache/3.11/a.json",
        ".pytest_cache/v/cache",
        ".ruff_cache/0.1/a",
        ".import_linter_cache/a",
        ".hypothesis/examples/a",
        "__pycache__/main.cpython-311.pyc",
        "htmlcov/index.html",
        ".coverage",
        ".coverage.test.host.1",
        ".env",
        ".main.py.swp",
        ".idea/a.xml",
        ".vscode/a.json",
        ".DS_Store",
        "deep/er/__pycache__/a.pyc",
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)


def test_everything_git_ignores_in_a_service_is_copied_unrendered_and_removed(
    source: Path, baked: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    service = tmp_path / "service"
    shutil.copytree(baked["shop", "github"], service)
    litter(service)
    baking.run("git", "init", "--quiet", cwd=service)
    seen = baking.run("git", "ls-files", "--others", "--exclude-standard", cwd=service)
    assert set(seen.split()) == set(baking.files(baked["shop", "github"]))


def bake_over(source: Path, folder: Path, **answers: str) -> subprocess.CompletedProcess[str]:
    """Bake over the folder `board-games` in `folder`, as `--overwrite-if-exists` does."""
    given = [f"{name}={value}" for name, value in answers.items()]
    command = [sys.executable, "-m", "cookiecutter", str(source), "-f", "--no-input", *given]
    return subprocess.run(
        command, cwd=folder, env=baking.environment(), capture_output=True, text=True, check=False
    )


def owned(folder: Path) -> Path:
    """Return an owner's repository that a service is baked over."""
    own = folder / "board-games"
    for name in (
        *(".env", ".venv/bin/python", "build/report.html", "app/__pycache__/main.pyc"),
        *(".github/workflows/own.yml", "app/features/shop/own.py", "notes/idea.txt"),
    ):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("own\n")
    (own / "empty").mkdir()
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    baking.run(*git, "init", "--quiet", cwd=own)
    baking.run(*git, "commit", "--quiet", "--allow-empty", "--message", "own", cwd=own)
    return own


def test_a_bake_over_an_owners_folder_touches_nothing_but_what_it_writes(
    source: Path, tmp_path: Path, baked: dict[tuple[str, str], Path]
) -> None:
    own = owned(tmp_path)
    before = baking.files(own)
    folders = {path for path in own.rglob("*") if path.is_dir()}
    done = bake_over(source, tmp_path, ci="gitlab", example="none")
    assert done.returncode == 0, done.stderr
    written = baking.files(baked["none", "gitlab"])
    assert baking.files(own) == before | written
    assert all(path.is_dir() for path in folders)
    baking.run("git", "fsck", "--strict", cwd=own)
    baking.run("git", "log", "--oneline", cwd=own)


def test_a_bake_that_would_replace_an_owners_files_is_refused_and_writes_nothing(
    source: Path, tmp_path: Path
) -> None:
    used = tmp_path / "used"
    shutil.copytree(source, used, symlinks=True)
    litter(used / baking.SERVICE)
    own = owned(tmp_path)
    (own / "chart/templates").mkdir(parents=True)
    (own / "chart/templates/own.yaml").write_text("own\n")
    before = baking.files(own)
    for template, lost in {used: (".env", ".venv"), source: ("chart/templates/own.yaml",)}.items():
        done = bake_over(template, tmp_path)
        assert done.returncode != 0
        (error,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
        assert all(name in error for name in lost), error
        assert baking.files(own) == before


def test_a_bake_ends_with_the_next_steps(source: Path, tmp_path: Path) -> None:
    done = bake_over(source, tmp_path)
    *_, title, setup, test, run = done.stdout.strip().splitlines()
    assert title == f"Board Games is in {tmp_path}/board-games. Next, in that folder:"
    assert [line.split()[1] for line in (setup, test, run)] == ["setup", "test", "run"]


def bare(source: Path, folder: Path) -> Path:
    """Return a bare repository with the template in it."""
    work = folder / "work"
    shutil.copytree(source, work, symlinks=True)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    baking.run(*git, "init", "--quiet", cwd=work)
    baking.run(*git, "add", "--all", cwd=work)
    baking.run(*git, "commit", "--quiet", "--message", "template", cwd=work)
    baking.run("git", "clone", "--quiet", "--bare", work, folder / "template.git", cwd=folder)
    return folder / "template.git"


@pytest.mark.parametrize("scheme", ["file://", "git+file://"])
def test_it_bakes_from_a_git_url_and_again_with_replay(
    scheme: str, source: Path, tmp_path: Path, baked: dict[tuple[str, str], Path]
) -> None:
    address = f"{scheme}{bare(source, tmp_path)}"
    home = baking.environment(HOME=str(tmp_path))
    command = [sys.executable, "-m", "cookiecutter", address]
    baking.run(*command, "--no-input", "--output-dir", "first", "ci=gitlab", cwd=tmp_path, env=home)
    again = [*command, "--replay", "--output-dir", "second"]
    baking.run(*again, cwd=tmp_path, env=home, typed="y\n")  # yes, download it anew
    for folder in ("first", "second"):
        service = tmp_path / folder / "board-games"
        assert baking.files(service) == baking.files(baked["shop", "gitlab"])


def test_a_path_that_the_hook_names_and_the_template_lacks_fails_the_bake(
    source: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(source, broken, symlinks=True)
    (broken / baking.SERVICE / ".gitlab-ci.yml").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", broken, "--no-input", "--output-dir", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "error: the template lacks .gitlab-ci.yml, listed for ci=gitlab" in done.stderr
    assert not any((tmp_path / "out").glob("*"))


def test_hooks_need_nothing_but_python(source: Path) -> None:
    for hook in (source / "hooks").iterdir():
        imported = re.findall(r"^(?:import|from) (\w+)", hook.read_text(), re.MULTILINE)
        assert set(imported) <= sys.stdlib_module_names
        assert not {"subprocess", "socket", "urllib"} & set(imported)


def test_the_answers_a_bake_was_made_with_can_be_replayed_from_its_own_file(
    source: Path, tmp_path: Path
) -> None:
    home = baking.environment(HOME=str(tmp_path))
    command = [sys.executable, "-m", "cookiecutter", str(source), "--output-dir"]
    baking.run(*command, "a", "--no-input", "project_name=Café & Co", cwd=tmp_path, env=home)
    baking.run(*command, "b", "--replay", cwd=tmp_path, env=home)
    assert baking.files(tmp_path / "a") == baking.files(tmp_path / "b")


def test_the_chart_is_the_template_s_with_a_name_of_its_own(
    combination: Path, source: Path
) -> None:
    own = baking.files(combination / "chart")
    original = {
        name: content
        for name, content in baking.files(source / "helm/service").items()
        if not name.startswith("tests/")
    }
    mine = {"Chart.yaml", "values-dev.yaml", "values-production.yaml", "values-staging.yaml"}
    assert set(own) == set(original) | mine
    assert {name for name in original if own[name] != original[name]} == {"Chart.yaml"}


def test_a_zip_archive_which_loses_links_is_refused_in_one_sentence(
    source: Path, tmp_path: Path
) -> None:
    repository = bare(source, tmp_path)
    archive = tmp_path / "template.zip"
    baking.run(
        *("git", "archive", "--format=zip", "--prefix=template/", f"--output={archive}", "HEAD"),
        cwd=repository,
    )
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", archive, "--no-input", "--output-dir", "out"],
        cwd=tmp_path,
        env=baking.environment(HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert "chart/templates" in error
    assert "slipway_kit cannot be copied, for archives lose the template's links" in error
    assert not any((tmp_path / "out").glob("*"))
