"""What uv is told of pip's settings, what counts as installed, and what is refused."""

import sys
from pathlib import Path

import pytest

from slipway_kit.dev import environment
from slipway_kit.dev.environment import SetupError, for_uv, pinned, pins

LOCK = """# written by make lock
one==1 \\
    --hash=sha256:aa
    # a remark
uv==2 ; sys_platform != "none" \\
    --hash=sha256:bb \\
    --hash=sha256:cc
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text(LOCK)
    return file


def test_uv_is_told_what_pip_is_told() -> None:
    listed = """:env:.index-url='https://packages.example/simple'
:env:.find-links='/nowhere /'
global.cert='/etc/own.pem'
global.disable-pip-version-check='true'
global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'
global.index-url='https://else.example/simple'
global.trusted-host='packages.example'
install.no-index='true'
"""
    variables, arguments = for_uv(listed, {})
    assert variables == {
        "UV_DEFAULT_INDEX": "https://packages.example/simple",
        "UV_FIND_LINKS": "/",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "packages.example",
        "SSL_CERT_FILE": "/etc/own.pem",
    }
    assert arguments == ["--no-index"]


def test_what_somebody_set_for_uv_stays() -> None:
    listed = "global.index-url='https://packages.example/simple'"
    variables, _ = for_uv(listed, {"UV_DEFAULT_INDEX": "https://mine.example/simple"})
    assert "UV_DEFAULT_INDEX" not in variables


def test_a_setting_that_uv_does_not_know_is_left_to_pip() -> None:
    with pytest.raises(SetupError, match="pip's setting constraint has no counterpart in uv"):
        for_uv("global.constraint='limits.txt'", {})


def test_remarks_decide_nothing(lock: Path) -> None:
    before = pins(lock)
    lock.write_text(LOCK.replace("# written by make lock\n", "# somebody else\n\n"))
    assert pins(lock) == before


def test_a_package_is_taken_with_its_hashes(lock: Path) -> None:
    assert pinned(lock, ["uv"]) == pins(lock)[-3:]
    with pytest.raises(SetupError, match="does not pin two; run `make lock`"):
        pinned(lock, ["one", "two"])


def test_an_old_python_is_refused_in_one_sentence_unless_all_is_there(
    lock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    venv = tmp_path / "venv"
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert environment.main([str(venv), str(lock)]) == 1
    expected = "error: Python 3.11 or newer is needed: make setup PYTHON=python3.13\n"
    assert capsys.readouterr().err == expected
    assert not venv.exists()
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").touch()
    (venv / environment.INSTALLED).write_text(LOCK)
    assert environment.main([str(venv), str(lock)]) == 0
    assert capsys.readouterr().err == ""


def test_a_folder_that_is_no_environment_is_refused_and_left_alone(
    lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday").write_text("sun")
    assert environment.main([str(folder), str(lock)]) == 1
    assert "photos is there, but is no virtual environment" in capsys.readouterr().err
    assert [each.name for each in folder.iterdir()] == ["holiday"]
