"""The hooks of pre-commit pass on what is there, and stop what should not be committed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import baking

GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
# Hook -> a file that it must refuse, put together so that the hooks let this file pass.
REFUSED = {
    "format": ("app/new.py", '"""New."""\n\nX = [1,2]\n'),
    "lint": ("app/new.py", '"""New."""\n\nimport os\n'),
    "dockerfile": ("Dockerfile", "FROM python\nRUN cd /tmp && sudo pip install shop\n"),
    "large-files": ("app/games.csv", "chess,1\n" * 70_000),
    "merge-markers": ("README.md", "<" * 7 + " HEAD\none\n" + "=" * 7 + "\ntwo\n"),
    "secrets": ("app/key.txt", "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE\n"),
}


def repository(folder: Path) -> Path:
    """Put everything in `folder` under git, with this session's environment beside it."""
    (folder / ".venv").symlink_to(baking.VENV)
    baking.run(*GIT, "init", "--quiet", cwd=folder)
    baking.run(*GIT, "add", "--all", cwd=folder)
    baking.run(*GIT, "commit", "--quiet", "--message", "all", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def service(baked: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commits") / "my service"
    return repository(shutil.copytree(baked["shop", "github"], folder))


def pre_commit(repository: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    home = repository.parent / "pre-commit"
    return subprocess.run(
        [baking.VENV / "bin/pre-commit", "run", "--color=never", *arguments],
        cwd=repository,
        env=baking.environment(PRE_COMMIT_HOME=str(home)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hooks_of_a_service_pass_on_it(service: Path) -> None:
    done = pre_commit(service, "--all-files")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Passed") == len(REFUSED)


def test_the_hooks_of_the_template_pass_on_it(tmp_path: Path) -> None:
    template = repository(baking.clone(tmp_path / "template"))
    done = pre_commit(template, "--all-files")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Passed") == len(REFUSED)


@pytest.mark.parametrize("hook", REFUSED)
def test_each_hook_stops_what_it_is_there_for(service: Path, hook: str) -> None:
    name, text = REFUSED[hook]
    before = (service / name).read_text() if (service / name).exists() else None
    (service / name).write_text(text)
    baking.run(*GIT, "add", name, cwd=service)
    try:
        done = pre_commit(service, hook)
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"hook id: {hook}" in done.stdout
    finally:
        baking.run(*GIT, "rm", "--force", "--quiet", "--cached", name, cwd=service)
        (service / name).unlink()
        if before is not None:
            (service / name).write_text(before)
        baking.run(*GIT, "add", "--all", cwd=service)


def test_make_hooks_without_a_repository_is_one_sentence(
    baked: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    service = shutil.copytree(baked["none", "github"], tmp_path / "service")
    env = baking.environment(GIT_CEILING_DIRECTORIES=str(tmp_path))
    done = subprocess.run(
        ["make", f"VENV={baking.VENV}", "hooks"],
        cwd=service,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert done.stdout.splitlines()[-1] == (
        "error: make this folder a git repository first: git init"
    )
    assert "fatal" not in done.stderr


def test_make_hooks_has_git_refuse_a_commit(
    baked: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    service = repository(shutil.copytree(baked["none", "github"], tmp_path / "my service"))
    baking.make("hooks", cwd=service)
    name, text = REFUSED["secrets"]
    (service / name).write_text(text)
    baking.run(*GIT, "add", name, cwd=service)
    env = baking.environment(PRE_COMMIT_HOME=str(tmp_path / "pre-commit"))
    commit = [*GIT, "commit", "--quiet", "--message", "a key"]
    done = subprocess.run(commit, cwd=service, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hook id: secrets" in done.stdout + done.stderr
    (service / name).write_text("no key\n")
    baking.run(*GIT, "add", name, cwd=service)
    baking.run(*commit, cwd=service, env=env)
