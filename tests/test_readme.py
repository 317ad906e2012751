"""The commands of the READMEs work as they are written."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests import baking
from tools.processes import end_with_us, free_port

SECONDS = 60
# They end when somebody ends them, and are run below.
ENDLESS = {"run", "dev"}
# This test is part of the first, the demonstration has tests of its own, the rest needs minutes or
# a network: the pipeline runs them.
NOT_HERE = {"test", "chart", "test-runtime", "demo", "mutate", "tools", "lock", "hooks"}
NOT_HERE |= {"image", "e2e", "faults", "bench", "mutate-chart", "test-kit", "coverage"}
NOT_HERE |= {"without-fast", "docs"}

ELSEWHERE = {"lock", "test-runtime", "coverage", "image", "test-image", "kind", "e2e", "hooks"}
# These need a cluster, or minutes.
ELSEWHERE |= {"up", "down", "faults", "bench"}

PAGES = sorted(
    path.relative_to(baking.TEMPLATE)
    for folder in ("", "docs", "docs/adr", "docs/guide", "kit", "kit/docs")
    for path in (baking.TEMPLATE / folder).glob("*.md")
)


def commands(readme: Path) -> list[str]:
    """Return the make targets that a README names in code."""
    text = readme.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    code = "\n".join([*blocks, *inline])
    lines = re.findall(r"\bmake((?: [a-z][a-z0-9-]*)+)", re.sub(r"#.*", "", code))
    return sorted({target for line in lines for target in line.split()})


@contextmanager
def serving(service: Path, target: str, state: Path) -> Iterator[int]:
    """Run `make run` or `make dev` until this block ends, as Ctrl-C ends it; yield the port."""
    port, metrics_port = free_port(), free_port()
    env = baking.environment(
        PORT=str(port),
        METRICS_PORT=str(metrics_port),
        WEB_CONCURRENCY="1",
        TMPDIR=str(state),
        XDG_STATE_HOME=str(state),
    )
    log = (state / f"{target}-{port}.log").open("w+")
    process = subprocess.Popen(
        ["make", f"VENV={baking.VENV}", target],
        cwd=service,
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=end_with_us(),  # noqa: PLW1509 (it only makes system calls)
    )
    try:
        wait_for(process, f"http://127.0.0.1:{port}/readyz", log.name)
        yield port
    finally:
        interrupt(process)
        baking.make("db-stop", cwd=service, env=env)
        log.close()
    baking.ran.add(target)


def wait_for(process: subprocess.Popen[bytes], url: str, log: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url):
            return
        time.sleep(0.1)
    pytest.fail(f"{url} did not answer 200:\n{Path(log).read_text()[-baking.SHOWN :]}")


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Do what Ctrl-C does: interrupt every process of the group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return str(answer.read().decode())


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_two_services_run_at_once_from_folders_with_a_space(
    used: dict[tuple[str, str], Path], state: Path
) -> None:
    shop, bare = used["shop", "github"], used["none", "github"]
    with serving(shop, "run", state) as first, serving(bare, "run", state) as second:
        assert get(first, "/api/v1/games") == '{"games":[],"next":null}'
        assert get(first, "/health") == get(second, "/health") == '{"status":"healthy"}'
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(second, "/api/v1/games")
    assert refuses(first)
    assert refuses(second)


def test_make_dev_reloads_when_a_file_changes(source: Path, tmp_path: Path, state: Path) -> None:
    service = baking.bake(source, tmp_path, example="none")
    with serving(service, "dev", state) as port:
        about = service / "app/about.py"
        about.write_text(about.read_text().replace('"0.1.0"', '"0.2.0"'))
        deadline = time.monotonic() + SECONDS
        while '"0.2.0"' not in get_or_nothing(port, "/openapi.json"):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def get_or_nothing(port: int, path: str) -> str:
    with suppress(urllib.error.URLError, ConnectionError):
        return get(port, path)
    return ""


@pytest.mark.last
def test_every_command_of_the_services_readme_was_run(
    used: dict[tuple[str, str], Path], state: Path
) -> None:
    # Locking needs an index, an image an engine, and runtime tests minutes: the pipeline runs them.
    # Hooks need a repository, and have tests of their own.
    service = used["none", "gitlab"]
    named = set(commands(service / "README.md"))
    assert named >= {"run", "dev", "test", "lint", "types"}
    env = baking.environment(TMPDIR=str(state), XDG_STATE_HOME=str(state))
    try:
        for target in sorted(named - baking.ran - ENDLESS - ELSEWHERE):
            baking.make(target, cwd=service, minutes=9, env=env)
    finally:
        # `make migrate` leaves the database running, as people want it.
        baking.make("db-stop", cwd=service, env=env)
    for target in sorted((ENDLESS & named) - baking.ran):
        with serving(service, target, state):
            pass


def test_the_readmes_name_targets_that_exist() -> None:
    for folder in (baking.TEMPLATE, baking.TEMPLATE / baking.SERVICE):
        makefile = (folder / "Makefile").read_text()
        targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
        readme = folder / "README.md"
        if folder == baking.TEMPLATE:
            # It speaks of the scaffolded service too.
            service = (folder / baking.SERVICE / "Makefile").read_text()
            targets |= set(re.findall(r"^([a-z0-9-]+):", service, re.MULTILINE))
        assert set(commands(readme)) <= targets


@pytest.mark.last
def test_every_command_of_the_templates_readme_has_a_test() -> None:
    named = set(commands(baking.TEMPLATE / "README.md"))
    assert {"demo", "test"} <= named
    for target in sorted(named - NOT_HERE - baking.ran - ENDLESS):
        baking.make(target, cwd=baking.TEMPLATE)


def test_the_picture_is_the_librarys_and_the_page_is_short() -> None:
    readme = (baking.TEMPLATE / "README.md").read_text(encoding="utf-8")
    page = (baking.TEMPLATE / "kit/docs/how-it-works.md").read_text(encoding="utf-8")
    [picture] = re.findall(r"```mermaid\n.*?```", readme, re.DOTALL)
    assert picture in page
    assert len(readme.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", (baking.TEMPLATE / page).read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(<?([^)>\s]+)>?\)", text)
    missing = [
        link
        for link in links
        if "://" not in link
        and not (baking.TEMPLATE / page.parent / unquote(link.partition("#")[0])).exists()
    ]
    assert missing == []
