"""Pin the dependencies of pyproject.toml, with hashes and without naming any index.

What is installed is what the service names and what the library needs: its group `kit`.
`make lock` writes requirements.txt and requirements-dev.txt for every Python from 3.11 up.
Pins that still fit stay; `make lock ARGS=--upgrade` takes newer ones.
The first line holds a hash of what was asked for, so that a test can tell without network when
somebody changed pyproject.toml and forgot to lock.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

FILES = {
    "requirements.txt": ["pyproject.toml", "--group", "kit"],
    "requirements-dev.txt": [
        *("pyproject.toml", "--group", "kit", "--group", "dev"),
        *("--constraint", "requirements.txt"),
    ],
}


def first_line(service: Path) -> str:
    """Return the line that a fresh requirements file of `service` starts with."""
    content = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        content["project"]["requires-python"],
        content["project"]["dependencies"],
        content["dependency-groups"],
    ]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"# Locks the dependency tables with sha256 {digest}."


def stale(service: Path) -> list[str]:
    """Return the requirements files that do not belong to the dependency tables of `service`."""
    expected = first_line(service)
    return [
        name
        for name in FILES
        if (service / name).read_text(encoding="utf-8").partition("\n")[0] != expected
    ]


def lock(service: Path, *, options: list[str]) -> None:
    """Write every requirements file of `service`."""
    for name, sources in FILES.items():
        print(f"Resolving {name}", flush=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", *sources, *options),
                *("--universal", "--python-version", "3.11", "--generate-hashes"),
                *("--no-annotate", "--no-emit-index-url"),
                *("--custom-compile-command", "make lock"),
                *("--quiet", "--output-file", name),
            ],
            cwd=service,
            check=True,
        )
        path = service / name
        path.write_text(
            f"{first_line(service)}\n{path.read_text(encoding='utf-8')}", encoding="utf-8"
        )


if __name__ == "__main__":
    lock(Path.cwd(), options=sys.argv[1:])
