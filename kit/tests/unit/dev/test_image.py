"""What `make image` runs, and what it says when it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from kit.tests.support.paths import SERVICE
from slipway_kit.dev import about, image


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"docker", "podman", "buildah"}, "docker"),
        ({"podman", "buildah"}, "podman"),
        ({"buildah"}, "buildah"),
    ],
)
def test_the_first_engine_that_answers_builds(there: set[str], found: str) -> None:
    assert image.find_engine(answers=there.__contains__) == found


def test_a_wanted_engine_is_taken_though_others_come_first() -> None:
    assert image.find_engine("buildah", answers=lambda _: True) == "buildah"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("", "docker, podman or buildah, and none of them answers here"),
        ("buildah", "buildah does not answer"),
        ("rm", "rm does not answer: use one of docker, podman, buildah"),
    ],
)
def test_no_engine_is_one_sentence(wanted: str, sentence: str) -> None:
    with pytest.raises(image.ImageError, match=sentence):
        image.find_engine(wanted, answers=lambda _: False)


def test_an_engine_that_is_installed_and_fails_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not image.answers("docker")
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\nexit 1\n")
    client.chmod(0o755)
    assert not image.answers("docker")
    client.write_text("#!/bin/sh\nexit 0\n")
    assert image.answers("docker")


def test_values_reach_the_build_as_they_are_and_arguments_as_a_shell_splits_them() -> None:
    command = image.build_command(
        "podman", "shop:1", {"TITLE": "Ann's $HOME, 桌游"}, more="--pull=never -v '/a b:/c:ro'"
    )
    assert command[:4] == ["podman", "build", "--tag", "shop:1"]
    assert command[4:6] == ["--build-arg", "TITLE=Ann's $HOME, 桌游"]
    assert command[6:] == ["--pull=never", "-v", "/a b:/c:ro", "."]


def test_buildah_is_told_to_make_layers_as_the_others_do() -> None:
    command = image.build_command("buildah", "shop:1", {}, more="")
    assert command == ["buildah", "build", "--layers", "--tag", "shop:1", "."]


def test_the_dockerfile_takes_every_value() -> None:
    text = (SERVICE / "Dockerfile").read_text(encoding="utf-8")
    for name in image.labels(about.read()):
        assert f"\nARG {name}=" in text
        assert f'="${{{name}}}"' in text


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://git.example.org/team/shop.git", "https://git.example.org/team/shop"),
        ("https://ci:secret@git.example.org/team/shop", "https://git.example.org/team/shop"),
        ("git@git.example.org:team/shop.git", "https://git.example.org/team/shop"),
        ("ssh://git@git.example.org:2222/team/shop.git", "https://git.example.org/team/shop"),
        ("/srv/git/shop.git", ""),
        ("file:///srv/git/shop.git", ""),
        ("", ""),
    ],
)
def test_the_source_is_a_web_address_without_a_password(remote: str, url: str) -> None:
    assert image.source_url(remote) == url


@pytest.mark.parametrize(
    "name",
    ["shop", "shop:1", "ghcr.io/example/shop:0.1.0", "localhost:5000/team_a/x.y:1-rc", "a/b--c"],
)
def test_names_that_engines_take(name: str) -> None:
    assert image.NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["Shop", "shop:", "shop:a b", "ghcr.io//shop", "a..b/c:1:2", "-t", "x/-y", "shop\n"]
)
def test_names_that_engines_refuse(name: str) -> None:
    assert not image.NAME.fullmatch(name)


def test_a_version_with_a_plus_becomes_a_tag() -> None:
    name = image.default_name("ghcr.io/example/shop", "1.0+local.1")
    assert name == "ghcr.io/example/shop:1.0-local.1"
    assert image.NAME.fullmatch(name)


def test_a_name_that_is_none_is_one_sentence_before_anything_is_built() -> None:
    done = subprocess.run(
        # Without what is installed: a pipeline that builds an image has Python alone.
        [sys.executable, "-S", "-m", "slipway_kit.dev.image"],
        cwd=SERVICE,
        env={"IMAGE": "A Name", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: 'A Name' is no name of an image: `make image IMAGE=shop:1` gives one.\n"
    )
