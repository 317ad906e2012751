"""What the image holds and asks for, and that it runs where little is allowed."""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from app import about
from kit.tests.image.conftest import StartContainer
from kit.tests.image.container import NAME, USER, call, inspect, run_arguments
from kit.tests.runtime.harness import SERVE, settings_of
from kit.tests.support.paths import SERVICE
from slipway_kit import __version__

SEALED = "/dev/shm:ro,size=64k"
# Names what this user could write to, were the file system not read-only.
WRITABLE = """
import os
for top in ("/app", "/venv", "/usr", "/etc", "/opt", "/bin", "/lib"):
    for folder, folders, files in os.walk(top):
        for name in (folder, *(os.path.join(folder, each) for each in (*folders, *files))):
            if not os.path.islink(name) and os.access(name, os.W_OK):
                print(name)
"""
TOOLS = (
    "pip",
    "pip3",
    "uv",
    "easy_install",
    "gcc",
    "cc",
    "c++",
    "ld",
    "as",
    "make",
    "cmake",
    "git",
)

PINS = """
from importlib.metadata import distributions
for found in distributions():
    print(found.name + "==" + found.version)
"""
SCAN = """
from email.parser import HeaderParser
from pathlib import Path
for top in ("/app", "/venv", "/usr"):
    for path in Path(top).rglob("*.dist-info/METADATA"):
        said = HeaderParser().parsestr(path.read_text())
        print(said["Name"] + "==" + said["Version"])
"""


def inside(engine: str, *command: str, user: str = USER) -> subprocess.CompletedProcess[str]:
    """Run a command in a new container of the image."""
    return call(engine, "run", "--rm", "--network", "none", "--user", user, NAME, *command)


def test_process_1_is_the_service_itself_and_no_shell(engine: str) -> None:
    config = inspect(engine)
    assert config["Cmd"] == ["python", "-m", "app", "serve"]
    assert not config.get("Entrypoint")
    assert "Healthcheck" not in config


def test_the_user_is_a_number_and_not_root(engine: str) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", inspect(engine)["User"])
    code = "import os; print(os.getuid(), os.geteuid(), os.getgid())"
    assert "0" not in inside(engine, "python", "-c", code).stdout.split()


def test_it_is_for_production_and_listens_on_every_interface(engine: str) -> None:
    config = inspect(engine)
    assert {"APP_ENV=production", "HOST=*"} <= set(config["Env"])
    assert set(config["ExposedPorts"]) == {"8000/tcp", "9000/tcp"}


def test_the_labels_say_what_it_is(engine: str) -> None:
    labels = inspect(engine)["Labels"]
    named = {
        name.removeprefix("org.opencontainers.image."): text
        for name, text in labels.items()
        if name.startswith("org.opencontainers.image.")
    }
    assert named["title"] == about.NAME
    assert named["description"] == about.DESCRIPTION
    assert named["version"] == about.VERSION
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", named["revision"])
    assert named["base.name"]
    assert "@" not in named["source"]


def test_the_service_could_write_to_no_file_even_without_a_read_only_root(engine: str) -> None:
    done = inside(engine, "python", "-c", WRITABLE)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("user", ["10001:10001", "54321:0"])
def test_everything_can_be_read_whatever_the_user(engine: str, user: str) -> None:
    code = (
        "import os;"
        "print([p for t in ('/app', '/venv') for d, _, fs in os.walk(t) for f in fs"
        " if not os.access(p := os.path.join(d, f), os.R_OK)])"
    )
    assert inside(engine, "python", "-c", code, user=user).stdout == "[]\n"


def test_there_is_nothing_to_build_or_install_with(engine: str) -> None:
    code = (
        "import importlib.util, shutil;"
        f"print([t for t in {TOOLS} if shutil.which(t)],"
        " [m for m in ('pip', 'setuptools', 'ensurepip') if importlib.util.find_spec(m)])"
    )
    assert inside(engine, "python", "-c", code).stdout == "[] []\n"
    base = inside(engine, "/usr/local/bin/python", "-c", code)
    assert base.stdout == "[] []\n"


def test_it_holds_the_service_and_not_its_tests_tools_or_secrets(engine: str) -> None:
    held = set(inside(engine, "python", "-c", "import os; print(*os.listdir())").stdout.split())
    metadata = f"slipway_kit-{__version__}.dist-info"
    service = {"app", "migrations", "gunicorn.conf.py"}
    assert held == service | {"slipway_kit", metadata}
    code = "import os; print(*os.listdir('slipway_kit'))"
    package = set(inside(engine, "python", "-c", code).stdout.split())
    assert {"MANIFEST", "server", "http"} <= package
    assert not {"dev", "testing"} & package


def test_a_scanner_finds_the_library_and_its_version_as_it_finds_what_was_installed(
    engine: str,
) -> None:
    # As syft, grype and trivy do: every METADATA below a *.dist-info of the file system.
    found = inside(engine, "python", "-c", SCAN).stdout.splitlines()
    assert f"slipway-kit=={__version__}" in found
    assert [pin for pin in found if pin.startswith("fastapi==")]


def test_the_library_is_a_layer_of_its_own_before_the_service(engine: str, tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    assert call(engine, "save", "--output", str(saved), NAME).returncode == 0
    library, service = layers(saved)[-2:]
    assert {name.partition("/")[0] for name in library} == {
        "slipway_kit",
        f"slipway_kit-{__version__}.dist-info",
    }
    assert {"app", "migrations"} <= {name.partition("/")[0] for name in service}
    assert not [name for name in service if name.startswith("slipway_kit")]


def layers(saved: Path) -> list[set[str]]:
    """Return what each layer of a saved image has below /app, the oldest first."""
    with tarfile.open(saved) as archive:
        (image,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        found = []
        for name in image["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                names = (each.removeprefix("./") for each in layer.getnames())
                found.append({each[4:] for each in names if each.startswith("app/")})
    return [names for names in found if names]


def test_all_bytecode_is_there_before_it_starts(engine: str) -> None:
    code = (
        "import sys, app.main;"
        "print([n for n, m in sys.modules.items() if (c := getattr(m, '__cached__', None))"
        " and c.endswith('.pyc') and m.__file__.startswith(('/app', '/venv'))"
        " and not __import__('os').path.exists(c)])"
    )
    assert inside(engine, "python", "-c", code).stdout == "[]\n"


def test_installed_is_nothing_but_what_the_requirements_pin(engine: str) -> None:
    text = (SERVICE / "requirements.txt").read_text(encoding="utf-8")
    pinned = {plain(pin) for pin in re.findall(r"^[\w.-]+==[^ ;\n]+", text, re.MULTILINE)}
    installed = {plain(pin) for pin in inside(engine, "python", "-c", PINS).stdout.split()}
    assert [pin for pin in installed if pin.startswith("fastapi==")]
    assert installed - {f"slipway-kit=={__version__}"} <= pinned


def plain(pin: str) -> str:
    """Write a pin as every tool writes it."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def test_it_migrates_and_is_ready_from_then_on(
    engine: str, start: StartContainer, empty_url: str
) -> None:
    container = start(SERVE, DATABASE_URL=empty_url)
    before = container.get("/readyz")[0]
    strict = run_arguments(engine, settings_of(empty_url))
    command = [*strict, NAME, "python", "-m", "app", "migrate"]
    done = call(engine, "run", "--rm", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert container.get("/readyz")[0] == 200
    revisions = list((SERVICE / "migrations/versions").glob("[!_]*.py"))
    assert before == (503 if revisions else 200)


@pytest.mark.parametrize("user", ["10001:10001", "54321:0"])
def test_it_runs_without_a_home_under_any_number(start: StartContainer, user: str) -> None:
    container = start(["env", "-u", "HOME", "python", "-m", "app", "serve"], user=user)
    assert container.get("/readyz")[0] == 200
    seen = container.run_inside("python", "-c", "import os; print(os.getuid(), os.getgid())")
    assert seen.stdout.split() == user.split(":")
    environment = container.run_inside("cat", "/proc/1/environ").stdout
    assert not [each for each in environment.split("\0") if each.startswith("HOME=")]
    assert container.events("service ready")


def test_a_volume_of_its_own_replaces_the_shared_memory(start: StartContainer) -> None:
    container = start(SERVE, memory=(SEALED, "/scratch:rw,mode=1777,size=64m"), TMPDIR="/scratch")
    files = container.run_inside("ls", "/scratch").stdout
    assert f"{about.SLUG}-metrics-" in files
    assert container.get("/readyz")[0] == 200
    assert container.metrics()


def test_without_anything_to_write_to_it_says_so_in_one_sentence(start: StartContainer) -> None:
    container = start(SERVE, ready=False, memory=(SEALED,))
    assert container.wait_end(seconds=20) == 1
    (line,) = container.text.splitlines()
    assert line.startswith("error: no folder can be written: mount a volume")


def test_a_setting_that_makes_no_sense_is_one_sentence(start: StartContainer) -> None:
    container = start(SERVE, ready=False, SHUTDOWN_SECONDS="soon")
    assert container.wait_end(seconds=20) == 2
    assert len(container.text.splitlines()) == 1
    assert "SHUTDOWN_SECONDS" in container.text
