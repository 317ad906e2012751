"""Verify that this copy of the library is unedited: its files against the sums in MANIFEST.

Only the standard library is imported: it runs where nothing is installed, and a partly copied
folder can report itself.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

PACKAGE = Path(__file__).resolve().parents[1]
MANIFEST = "MANIFEST"


def sums(package: Path = PACKAGE) -> dict[str, str]:
    """Return the sha256 sum of every file of `package` by relative path."""
    return {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(package)
    }


def render(found: Mapping[str, str]) -> str:
    """Return the text of a MANIFEST, in the format of `sha256sum`."""
    return "".join(f"{found[name]}  {name}\n" for name in sorted(found))


def problems(package: Path = PACKAGE) -> list[str]:
    """Return one sentence for each file that was edited, added, or is missing."""
    manifest = package / MANIFEST
    if not manifest.is_file():
        return [f"{package.name}/{MANIFEST} is missing: copy the whole folder again."]
    lines = manifest.read_text(encoding="utf-8").splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = sums(package)
    edited = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    return [
        *(
            f"{package.name}/{name} is missing: copy the whole folder again."
            for name in _shortened(wanted.keys() - found.keys(), package)
        ),
        *(
            f"{package.name}/{name} was edited: restore it; README.md there says how to change"
            " what the library does."
            for name in sorted(edited)
        ),
        *(
            f"{package.name}/{name} does not belong there: move it to a folder of the service."
            for name in sorted(found.keys() - wanted.keys())
        ),
    ]


def main() -> int:
    """Print what is wrong, or that nothing is; return the exit status."""
    if found := problems():
        print("\n".join(f"error: {problem}" for problem in found), file=sys.stderr)
        return 1
    from slipway_kit import __version__

    print(f"slipway-kit {__version__} is unedited")
    return 0


def _files(package: Path) -> Iterator[Path]:
    """Yield all files but MANIFEST, bytecode and hidden ones."""
    for path in package.rglob("*"):
        parts = path.relative_to(package).parts
        ignored = any(part == "__pycache__" or part.startswith(".") for part in parts)
        if path.is_file() and not ignored and parts != (MANIFEST,):
            yield path


def _shortened(missing: set[str], package: Path) -> list[str]:
    """Return missing files; a missing folder stands for all files in it."""
    return sorted({_topmost(PurePosixPath(name), package) for name in missing})


def _topmost(name: PurePosixPath, package: Path) -> str:
    """Return the topmost missing folder of `name`, or `name`."""
    for parent in reversed(name.parents):
        if not (package / parent).is_dir():
            return f"{parent}/"
    return str(name)
