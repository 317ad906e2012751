"""Which program runs, and what is said when it does not work."""

import sys
from pathlib import Path

import pytest

from slipway_kit.dev import programs

PYTHON = sys.executable


def test_the_output_is_returned_and_the_input_is_read() -> None:
    echo = "import sys; print(sys.stdin.read().upper(), end='')"
    assert programs.run([PYTHON, "-c", echo], "there") == "THERE"


def test_the_one_beside_python_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("elsewhere", "beside"):
        program = tmp_path / folder / "helm"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {folder}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert programs.run(["helm"]) == "elsewhere\n"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside/python"))
    assert programs.run(["helm"]) == "beside\n"


def test_a_missing_one_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder of PATH that may not be read answers otherwise than one where nothing is.
    monkeypatch.setenv("PATH", f"/proc/1/root/nowhere:{Path(PYTHON).parent}")
    with pytest.raises(programs.ProgramError, match=r"^no-such-program is missing: install it\.$"):
        programs.run(["no-such-program"])


def test_a_failing_one_is_one_sentence_after_what_it_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fail = "import sys; print('why'); print('and where', file=sys.stderr); sys.exit(3)"
    with pytest.raises(programs.ProgramError, match=r" \.\.\. failed; its last lines say why\.$"):
        programs.run([PYTHON, "-c", fail, "one", "two"])
    assert set(capfd.readouterr().err.split("\n")) >= {"why", "and where"}


def test_one_that_does_not_end_is_one_sentence() -> None:
    with pytest.raises(programs.ProgramError, match=r"did not end within 0\.2 s\.$"):
        programs.run([PYTHON, "-c", "import time; time.sleep(60)"], seconds=0.2)
