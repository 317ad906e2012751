"""Pin the dependencies of the service and of the template, with hashes and without any index.

The service's folder has no valid package name before it is rendered, so the default service is
rendered into a temporary folder, locked there by its own `make lock`, and the files copied back.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from cookiecutter.main import cookiecutter

from tools import manifest

TEMPLATE = Path(__file__).resolve().parents[1]
SERVICE = TEMPLATE / "<<cookiecutter.project_slug>>"
KIT = TEMPLATE / "kit/pyproject.toml"
OWN_FILE = TEMPLATE / "requirements-dev.txt"
CHECKOV = TEMPLATE / "tools/checkov"
DOCS = TEMPLATE / "docs/site"
SERVICE_FILES = ["requirements.txt", "requirements-dev.txt"]


def groups() -> dict[str, list[str]]:
    """Return the service's groups that the library decides: what it needs, and to test with it."""
    project = tomllib.loads(KIT.read_text(encoding="utf-8"))["project"]
    return {"kit": project["dependencies"], "kit-dev": project["optional-dependencies"]["dev"]}


def copy_groups() -> None:
    """Write what the library needs into the service's pyproject.toml."""
    path = SERVICE / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    for name, wanted in groups().items():
        lines = "".join(f"    {json.dumps(each)},\n" for each in wanted)
        text = re.sub(rf"(?ms)^{name} = \[\n.*?^\]", f"{name} = [\n{lines}]", text, count=1)
    path.write_text(text, encoding="utf-8")


def lock_service(*options: str) -> None:
    """Write the service's requirements files."""
    with tempfile.TemporaryDirectory() as folder:
        baked = Path(
            cookiecutter(str(TEMPLATE), no_input=True, default_config=True, output_dir=folder)
        )
        subprocess.run(
            [sys.executable, "-m", "slipway_kit.dev.lock", *options], cwd=baked, check=True
        )
        for name in SERVICE_FILES:
            shutil.copyfile(baked / name, SERVICE / name)


def lock_template(*options: str) -> None:
    """Write the template's requirements file: the service's pins, the library's, and its own."""
    print("Resolving the template's requirements-dev.txt", flush=True)
    service = str(SERVICE / "requirements-dev.txt")
    own = ("--group", "pyproject.toml:dev", "--group", "kit/pyproject.toml:dev")
    resolve(*own, service, *options, into=OWN_FILE)


def lock_checkov(*options: str) -> None:
    """Write what checkov needs, in an environment of its own."""
    print("Resolving checkov's requirements.txt", flush=True)
    resolve(str(CHECKOV / "requirements.in"), *options, into=CHECKOV / "requirements.txt")


def lock_docs(*options: str) -> None:
    """Write what builds the documentation site, in an environment of its own."""
    print("Resolving the documentation's requirements.txt", flush=True)
    resolve(str(DOCS / "requirements.in"), *options, into=DOCS / "requirements.txt")


def resolve(*wanted: str, into: Path) -> None:
    """Write pins and hashes of what is wanted."""
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", *wanted),
            *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate"),
            *("--no-emit-index-url", "--custom-compile-command", "make lock"),
            *("--quiet", "--output-file", str(into)),
        ],
        cwd=TEMPLATE,
        check=True,
    )


if __name__ == "__main__":
    copy_groups()
    lock_service(*sys.argv[1:])
    lock_template(*sys.argv[1:])
    lock_checkov(*sys.argv[1:])
    lock_docs(*sys.argv[1:])
    manifest.write()
