"""Every answer is refused in one line, or makes a project whose every file parses."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import baking

REFUSED = {
    "an upper-case slug": {"project_slug": "Shop"},
    "a slug with a dot": {"project_slug": "board.games"},
    "a slug that starts with a digit": {"project_slug": "3d-shop"},
    "a slug that ends with a dash": {"project_slug": "shop-"},
    "a slug of 41 characters": {"project_slug": "a" * 41},
    "an empty slug": {"project_slug": ""},
    "a slug with a newline": {"project_slug": "shop\n"},
    "a control character": {"author": "Ann\x07"},
    "a newline": {"description": "one\ntwo"},
    "a line separator": {"description": "one\u2028two"},
    "a quotation mark": {"description": 'the "best"'},
    "a backslash": {"description": "C:\\shop"},
    "a backquote": {"description": "`id`"},
    "our variable's start": {"description": "a << b"},
    "our block's start": {"description": "a <% b"},
    "two braces": {"description": "{{ cookiecutter }}"},
    "an upper-case registry": {"registry": "GHCR.io/Shop"},
    "a registry with a space": {"registry": "ghcr.io/a shop"},
    "a registry with two slashes": {"registry": "ghcr.io//shop"},
    "a registry with a tag": {"registry": "ghcr.io/shop:1"},
    "a registry with a port that is no number": {"registry": "ghcr.io:shop/x"},
    "a registry that ends with a slash": {"registry": "ghcr.io/"},
    "a registry with a scheme": {"registry": "https://ghcr.io/shop"},
    "nothing but spaces": {"author": "   "},
    "a description of 201 characters": {"description": "x" * 201},
    "a value that was never filled in": {"author": "<< cookiecutter.owner >>"},
    "the rest of such a value": {"author": "cookiecutter.owner"},
}
KEPT = {
    "an apostrophe": {"project_name": "Ann's Games", "description": "Ann's"},
    "YAML's own characters": {"description": "a: b # c & d, [e] {f} | > % @ ! * -"},
    "an accent": {"project_name": "Café Müller", "author": "Zoë"},
    "another script": {"project_name": "桌游", "description": "Настольные игры"},
    "emoji": {"description": "games 🎲"},
    "a slug of 40 characters": {"project_slug": "a" * 40},
    "a slug of one letter": {"project_slug": "a"},
    "a registry with a port": {"registry": "localhost:5000/team_a/x.y"},
    "shell characters": {"description": "$HOME $(id) ; rm ~ | cat"},
    "a path": {"project_name": "/tmp/shop", "project_slug": "shop"},
    "a long description": {"description": "x " * 100},
    "a keyword of YAML": {"project_name": "no", "author": "null"},
}


def bake_or_error(source: Path, folder: Path, answers: dict[str, str]) -> list[str]:
    """Bake with `answers` by replay, which checks nothing itself, and return what it refused."""
    replay = folder / "replay.json"
    defaults = {
        "project_name": "Board Games",
        "project_slug": "board-games",
        "description": "The Board Games service",
        "author": "Platform Team",
        "registry": "ghcr.io/example",
        "example": "shop",
        "ci": "github",
    }
    spec = json.loads((source / "cookiecutter.json").read_text(encoding="utf-8"))
    private = {name: value for name, value in spec.items() if name.startswith("_")}
    context = {"cookiecutter": private | defaults | answers}
    replay.write_text(json.dumps(context), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cookiecutter", source, "--output-dir", folder / "out"),
            *("--replay-file", replay),
        ],
        env=baking.environment(TMPDIR=str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    if done.returncode:
        assert len(errors) == 1, done.stderr
        assert not any((folder / "out").glob("*")), "the refused project was left behind"
    else:
        assert not errors
    return errors


def check_files(service: Path) -> None:
    """Parse every file of a service and lint it."""
    for path in baking.walk(service):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            ast.parse(text)
        elif path.suffix == ".toml":
            tomllib.loads(text)
        elif path.suffix in {".yml", ".yaml"} and "templates" not in path.parts:
            list(yaml.safe_load_all(text))
        elif path.suffix == ".json":
            json.loads(text)
    baking.run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=service)
    baking.run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".", cwd=service)
    baking.run(baking.VENV / "bin/hadolint", "Dockerfile", cwd=service)
    baking.run(baking.VENV / "bin/helm", "lint", "--strict", "chart", cwd=service)
    check_chart(service)


def check_chart(service: Path) -> None:
    """See that every name that helm makes of the answers is a string."""
    slug = service.name
    rendered = baking.run(
        *(baking.VENV / "bin/helm", "template", slug, "chart", "--namespace", "null"), cwd=service
    )
    for each in filter(None, yaml.safe_load_all(rendered)):
        metadata = each["metadata"]
        names = [metadata["name"], metadata["namespace"], *metadata["labels"].values()]
        assert all(isinstance(name, str) for name in names), names
        assert metadata["name"].startswith(slug)
        assert metadata["namespace"] == "null"


@pytest.mark.parametrize("answers", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_answer_is_refused_in_one_line(
    answers: dict[str, str], source: Path, tmp_path: Path
) -> None:
    (error,) = bake_or_error(source, tmp_path, answers)
    assert any(name in error for name in answers)


def test_the_sentence_is_all_that_is_shown_of_a_bad_answer(source: Path, tmp_path: Path) -> None:
    command = ("cookiecutter", source, "--no-input", "--default-config", "--output-dir", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", *command, "project_slug=Shop"],
        env=baking.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("error: project_slug is 'Shop': use lower-case letters")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["Shop", "3d-shop"], "error: project_slug is '3d-shop'"),
        (["Shop", "shop", "", "", "GHCR.io/Shop"], "error: registry is 'GHCR.io/Shop'"),
    ],
)
def test_a_bad_answer_is_refused_before_the_next_question(
    typed: list[str], said: str, source: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", source, "--default-config"],
        cwd=tmp_path,
        env=baking.environment(),
        input="\n".join([*typed, ""]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"[{len(typed)}/7]" in done.stdout
    assert f"[{len(typed) + 1}/7]" not in done.stdout
    assert said in done.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("3D Shop", "service-3d-shop"),
        ("!!!", "service"),
        ("桌游", "zhuo-you"),
        ("Ten words " * 8, "ten-words-ten-words-ten-words-ten-words"),
    ],
)
def test_the_technical_name_that_is_offered_is_one_that_is_accepted(
    name: str, slug: str, source: Path, tmp_path: Path
) -> None:
    assert baking.bake(source, tmp_path, project_name=name).name == slug


@pytest.mark.parametrize("option", ["example", "ci"])
def test_an_unknown_choice_is_refused_when_replayed(
    option: str, source: Path, tmp_path: Path
) -> None:
    (error,) = bake_or_error(source, tmp_path, {option: "nothing"})
    assert f"{option} is 'nothing'" in error


def test_of_an_unknown_choice_on_the_command_line_the_last_line_tells(
    source: Path, tmp_path: Path
) -> None:
    # cookiecutter compares it before anything of a template is run, hooks too: the line is its own.
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", source, "--no-input", "ci=jenkins"],
        cwd=tmp_path,
        env=baking.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert all(
        word in done.stderr.splitlines()[-1] for word in ("ci", "jenkins", "github", "gitlab")
    )
    assert not any(tmp_path.iterdir())


def test_several_bad_answers_are_named_in_the_one_line(source: Path, tmp_path: Path) -> None:
    (error,) = bake_or_error(source, tmp_path, {"project_slug": "A", "ci": "no", "author": "`"})
    assert all(name in error for name in ("project_slug", "ci", "author"))


@pytest.mark.parametrize("answers", KEPT.values(), ids=KEPT.keys())
def test_an_unusual_answer_makes_a_sound_project(
    answers: dict[str, str], source: Path, tmp_path: Path
) -> None:
    assert bake_or_error(source, tmp_path, answers) == []
    (service,) = (tmp_path / "out").iterdir()
    check_files(service)
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == answers.get("project_slug", "board-games")
    assert project["description"] == answers.get("description", project["description"])
    assert project["authors"] == [{"name": answers.get("author", "Platform Team")}]


texts = st.one_of(
    st.text(max_size=60),
    st.text("ab'\"\\`<>%{}#&:;$! \n\té桌", max_size=20),
)
slugs = st.one_of(texts, st.from_regex(r"[a-z][a-z0-9-]{0,45}", fullmatch=True))


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=texts,
    slug=slugs,
    description=texts,
    author=texts,
    registry=st.one_of(st.just("ghcr.io/example"), texts),
    example=st.sampled_from(["shop", "none", "tour"]),
    ci=st.sampled_from(["github", "gitlab"]),
)
def test_drawn_answers_are_refused_or_make_a_sound_project(  # noqa: PLR0913, PLR0917 - one for each question
    name: str,
    slug: str,
    description: str,
    author: str,
    registry: str,
    example: str,
    ci: str,
    source: Path,
) -> None:
    answers = {
        "project_name": name,
        "project_slug": slug,
        "description": description,
        "author": author,
        "registry": registry,
        "example": example,
        "ci": ci,
    }
    folder = Path(tempfile.mkdtemp(prefix="answers-"))
    try:
        if not bake_or_error(source, folder, answers):
            (service,) = (folder / "out").iterdir()
            check_files(service)
    finally:
        shutil.rmtree(folder)


def test_the_hook_knows_the_choices_of_the_questions() -> None:
    spec = json.loads((baking.TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    options = {
        name: value
        for name, value in spec.items()
        if isinstance(value, list) and not name.startswith("_")
    }
    hook = (baking.TEMPLATE / "hooks/pre_gen_project.py").read_text(encoding="utf-8")
    found = re.search(r"^CHOICES = (\{.*\})$", hook, re.MULTILINE)
    assert found
    assert ast.literal_eval(found[1]) == options


def test_the_ignored_names_are_the_ones_copied_without_rendering() -> None:
    spec = json.loads((baking.TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    ignored = (baking.TEMPLATE / baking.SERVICE / ".gitignore").read_text(encoding="utf-8").split()
    copied = spec["_copy_without_render"]
    service = baking.TEMPLATE / baking.SERVICE
    linked = {
        str(path.relative_to(service))
        for folder in (service, service / "chart")
        for path in folder.iterdir()
        if path.is_symlink()
    }
    assert linked <= set(copied)
    assert set(copied) - linked == {
        pattern
        for name in ignored
        for pattern in ([name] if name.startswith("*.") else [name, f"*/{name}"])
    }
