"""Have a virtual environment hold what a requirements file pins; `make setup` calls it.

    python -m slipway_kit.dev.environment VENV FILE [--template FILE] [--only NAME ...]

It needs nothing but Python's standard library. uv, pinned in the same file, installs in a fraction
of pip's time; where it cannot, pip does. An environment that was made here for this project holds
just what is pinned: everything else is uninstalled from it. From an environment of somebody else
nothing is uninstalled.
"""

from __future__ import annotations  # an old Python has to get as far as the sentence about it

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Of an environment that was made here: which project it is for.
OWNER = "made-by-make-setup.txt"
# Copies of what is installed, written last: without them nothing counts as installed.
INSTALLED = "installed-requirements.txt"
TEMPLATE = "template-requirements.txt"
# What pip is told by its settings, and how uv is told the same. uv reads none of pip's files.
HANDED_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
# Settings of pip that change nothing about which packages come from where.
INDIFFERENT = {
    *("break-system-packages", "cache-dir", "disable-pip-version-check", "no-cache-dir"),
    *("no-color", "no-input", "no-python-version-warning", "no-warn-script-location"),
    *("progress-bar", "quiet", "require-virtualenv", "retries", "root-user-action", "verbose"),
}
TOLD_BY_UV = ("Resolved ", "Prepared ", "Uninstalled ", "Installed ", "Audited ")


class SetupError(Exception):
    """The environment could not be set up; the text says why and what to do."""


class Wanted:
    """What an environment shall hold: all that `pinned` names, or a part of it."""

    def __init__(self, venv: Path, file: Path, template: Path | None, only: list[str]) -> None:
        # The template's own file holds all pins of the service's file and more.
        self.venv, self.file, self.pinned, self.only = venv, file, template or file, only
        self.marks = {INSTALLED: file, **({TEMPLATE: template} if template else {})}
        self.python = venv / "bin" / "python"
        self.project = str(self.pinned.resolve().parent)

    def installed(self) -> bool:
        """Tell whether an earlier run installed the same pins and came to its end."""
        return self.python.exists() and all(
            (self.venv / mark).is_file() and pins(self.venv / mark) == pins(file)
            for mark, file in self.marks.items()
        )

    def ours(self) -> bool:
        """Tell whether the environment was made here, for this project."""
        owner = self.venv / OWNER
        return owner.is_file() and owner.read_text(encoding="utf-8").strip() == self.project


def pins(file: Path) -> list[str]:
    """Return the lines of a requirements file that decide what is installed."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def pinned(file: Path, names: list[str]) -> list[str]:
    """Return the lines of these packages, with their hashes.

    Raises `SetupError` when one of them is not pinned.
    """
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in pins(file):
        if not line.startswith(" "):
            lines = found.setdefault(line.partition("==")[0], [])
        lines.append(line)
    if missing := [name for name in names if name not in found]:
        raise SetupError(f"{file} does not pin {missing[0]}; run `make lock`.")
    return [line for name in names for line in found[name]]


def make_environment(wanted: Wanted) -> None:
    """Make the environment, or what an interrupted run left of it, unless it is somebody else's."""
    venv = wanted.venv
    if not venv.exists() or not any(venv.iterdir()):
        venv.mkdir(parents=True, exist_ok=True)
        (venv / OWNER).write_text(f"{wanted.project}\n", encoding="utf-8")
    works = wanted.python.exists() and not run(wanted.python, "-m", "pip", "--version").returncode
    if works:
        return
    if not wanted.ours():
        raise SetupError(
            f"{venv} is there, but is no virtual environment with pip:"
            " remove it or name another folder with VENV=."
        )
    for each in venv.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != OWNER:
            each.unlink()
    made = run(sys.executable, "-m", "venv", venv)
    if made.returncode:
        raise SetupError(f"{made.stdout}{made.stderr}Python cannot make a virtual environment.")


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]  # options of run
        [str(each) for each in command], capture_output=True, text=True, check=False, **options
    )


def for_uv(listed: str, environment: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables and arguments that tell uv what `pip config list` shows.

    Raises `SetupError` for a setting that uv has no counterpart of.
    """
    settings: dict[str, str] = {}
    # Later ones win: pip's variables over its files, those of `pip install` over those for all.
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            where, _, name = key.rpartition(".")
            if where == section:
                settings[name] = str(ast.literal_eval(value))
    handed, arguments = {}, []
    for name, value in settings.items():
        if name == "no-index":
            arguments += ["--no-index"] if value.lower() in {"1", "true", "yes", "on"} else []
        elif name in HANDED_TO_UV:
            words = value.split()
            if name == "find-links":
                words = [word for word in words if "://" in word or Path(word).exists()]
            handed[HANDED_TO_UV[name]] = ("," if name == "find-links" else " ").join(words)
        elif name not in INDIFFERENT:
            raise SetupError(f"pip's setting {name} has no counterpart in uv")
    own = {name for name in environment if name.startswith("UV_")}
    # Every hash is known: whichever index has the file has the right one, as for pip.
    chosen = {"UV_INDEX_STRATEGY": "unsafe-best-match", **handed}
    return {name: value for name, value in chosen.items() if value and name not in own}, arguments


def install_by_uv(wanted: Wanted, folder: Path) -> None:
    """Install with uv; raise `SetupError` where it cannot."""
    listed = run(wanted.python, "-m", "pip", "config", "list").stdout
    variables, arguments = for_uv(listed, dict(os.environ))
    only_uv = folder / "uv.txt"
    only_uv.write_text("\n".join(pinned(wanted.pinned, ["uv"])), encoding="utf-8")
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    began = time.monotonic()
    uv = run(wanted.python, *pip, "--require-hashes", "--requirement", only_uv)
    if uv.returncode:
        raise SetupError(f"uv cannot be installed: {last_line(uv.stderr)}")
    print(f"  uv, which installs the rest: {time.monotonic() - began:.1f} s", flush=True)
    command = ["sync" if wanted.ours() else "install", *arguments, "--require-hashes"]
    if wanted.only:
        some = folder / "some.txt"
        some.write_text("\n".join(pinned(wanted.pinned, wanted.only)), encoding="utf-8")
        command = ["install", *arguments, "--require-hashes", "--requirement", str(some)]
        command += ["--requirement", str(wanted.file), "--constraint", str(wanted.pinned)]
    else:
        command += [str(wanted.pinned)] if wanted.ours() else ["--requirement", str(wanted.pinned)]
    follow(
        [str(wanted.venv / "bin/uv"), "pip", *command, "--python", str(wanted.python)],
        {**os.environ, **variables},
    )


def follow(command: list[str], environment: dict[str, str]) -> None:
    """Run uv and show how far it is, without the names of all packages; raise `SetupError`."""
    said: list[str] = []
    large = done = 0
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as uv:
        assert uv.stderr is not None  # noqa: S101 - it is piped
        for line in uv.stderr:
            said.append(line)
            large += line.startswith("Downloading ")
            done += line.startswith(" Downloaded ")
            if line.startswith(TOLD_BY_UV):
                print(f"{clear}  {line.strip()}", flush=True)
            elif clear and large > done:
                print(f"{clear}  {done} of {large} large packages are here", end="", flush=True)
    if uv.returncode:
        print("".join(said), file=sys.stderr)
        raise SetupError(f"uv failed: {last_line(''.join(said))}")


def last_line(text: str) -> str:
    """Return the last line with anything on it."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def install_by_pip(wanted: Wanted) -> None:
    """Install with pip, which takes a minute or more; raise `SetupError`."""
    command = [str(wanted.python), "-m", "pip", "install", "--quiet", "--require-hashes"]
    command += ["--requirement", str(wanted.pinned)]
    if subprocess.run(command, check=False).returncode:
        raise SetupError("pip could not install what is pinned; its last lines say why.")


def set_up(wanted: Wanted) -> None:
    """Make the environment and install into it; raise `SetupError`."""
    for mark in wanted.marks:
        (wanted.venv / mark).unlink(missing_ok=True)
    print(f"Installing into {wanted.venv}", flush=True)
    began = time.monotonic()
    make_environment(wanted)
    print(f"  the environment: {time.monotonic() - began:.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            install_by_uv(wanted, Path(folder))
        except (SetupError, OSError) as reason:
            print(f"  {reason}; pip installs instead, a minute or more", flush=True)
            install_by_pip(wanted)
    for mark, file in wanted.marks.items():
        shutil.copyfile(file, wanted.venv / f"{mark}.new")
        (wanted.venv / f"{mark}.new").replace(wanted.venv / mark)
    print(f"  ready after {time.monotonic() - began:.1f} s", flush=True)


def arguments(given: list[str]) -> Wanted:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m slipway_kit.dev.environment")
    parser.add_argument("venv", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--template", type=Path, help="a file with all these pins and more")
    parser.add_argument("--only", nargs="+", default=[], help="of that file, these beside FILE")
    found = parser.parse_args(given)
    return Wanted(found.venv, found.file, found.template, found.only)


def main(given: list[str]) -> int:
    """Set up, unless that was done; return the exit status."""
    wanted = arguments(given)
    if wanted.installed():
        return 0
    if sys.version_info < (3, 11):  # noqa: UP036 - that is what the sentence is for
        message = "error: Python 3.11 or newer is needed: make setup PYTHON=python3.13"
        print(message, file=sys.stderr)
        return 1
    try:
        set_up(wanted)
    except (SetupError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the next `make setup` goes on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
