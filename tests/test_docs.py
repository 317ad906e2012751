"""What the guide says about code is true of the code. `tests/site` looks at the site itself."""

import asyncio
import importlib
import inspect
import math
import re
import runpy
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import anyio
import fastapi
import fastapi.routing
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.pool import QueuePool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks import report
from tests import baking
from tools import docs_mermaid, docs_reference, docs_site, docs_sources
from tools.processes import free_port

GUIDE = baking.TEMPLATE / "docs/guide"
SAMPLES = baking.TEMPLATE / "docs/samples"
# What the anti-patterns 1, 4 and 10 look like, and the rules that find them.
MISTAKES = {
    "ASYNC251": "async def wait() -> None:\n    time.sleep(1)\n",
    "RUF006": "async def forget() -> None:\n    asyncio.create_task(wait())\n",
    "TID251": "def start() -> None:\n    asyncio.run(wait())\n",
}
SECONDS = 20
DIAGRAMS = {
    "background": ["flow", "sequence"],
    "dependencies": ["sequence"],
    "dispatch": ["flow", "sequence"],
    "layers": ["flow"],
    "loop": ["flow", "sequence", "sequence"],
    "pools": ["flow"],
    "registration": ["flow"],
    "request": ["flow", "sequence"],
    "retrieval": ["flow", "flow", "sequence"],
    "start": ["sequence"],
    "uvicorn": ["flow"],
    "workers": ["flow"],
    "wsgi-and-asgi": ["sequence", "sequence"],
}


def page(name: str) -> str:
    return (GUIDE / f"{name}.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row that begins with a number."""
    lines = re.findall(r"^\| (\d+ \|.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def linked(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("name", sorted(each.stem for each in GUIDE.glob("*.md")))
def test_the_code_that_a_page_links_to_has_that_name(name: str) -> None:
    missing = []
    for link in linked(page(name)):
        path, _, anchor = link.partition("#")
        if path.endswith(".py") and anchor:
            text = (GUIDE / unquote(path)).read_text(encoding="utf-8")
            names = {each for line in docs_sources.anchors(text).values() for each in line}
            missing += [link] if anchor not in names else []
    assert missing == []


def test_every_page_of_the_guide_is_in_its_index_and_in_the_navigation() -> None:
    settings = (docs_site.CONFIG / "mkdocs.yml").read_text(encoding="utf-8")
    for each in GUIDE.glob("*.md"):
        assert f"- docs/guide/{each.name}\n" in settings
        assert each.name == "index.md" or f"]({each.name})" in page("index")


def test_the_checklist_has_twenty_items_each_with_code_and_a_test() -> None:
    found = rows(page("checklist"))
    assert [int(number) for number, *_ in found] == list(range(1, 21))
    for number, _, code, test in found:
        assert linked(code), number
        assert all("/test" in link for link in linked(test)), number
        assert linked(test), number


def test_each_anti_pattern_has_a_guard_with_a_test() -> None:
    found = rows(page("anti-patterns"))
    assert [int(number) for number, *_ in found] == list(range(1, 13))
    for number, _, _, guard, test in found:
        assert linked(guard) or "ruff" in guard, number
        assert linked(test), number


def test_a_request_has_fifteen_steps_and_eleven_in_short() -> None:
    assert [int(number) for number, *_ in rows(page("request"))] == list(range(1, 16))
    _, _, short = page("request").partition("## In eleven steps\n")
    assert re.findall(r"(\d+)\. ", short) == [str(number) for number in range(1, 12)]


@pytest.mark.parametrize(("name", "kinds"), sorted(DIAGRAMS.items()))
def test_a_page_draws_what_it_tells(name: str, kinds: list[str]) -> None:
    drawn = re.findall(r"```mermaid\n(\w+)", page(name))
    assert [each.removesuffix("Diagram").removesuffix("chart") for each in drawn] == kinds


def test_the_layers_are_those_that_a_service_installs() -> None:
    pins = (baking.TEMPLATE / baking.SERVICE / "requirements.txt").read_text(encoding="utf-8")
    installed = set(re.findall(r"^([a-z0-9-]+)==", pins, re.MULTILINE))
    named = {each.lower() for each in re.findall(r"\w+", page("layers"))}
    assert {
        "gunicorn",
        "uvloop",
        "uvicorn",
        "httptools",
        "starlette",
        "fastapi",
    } <= installed & named
    assert {"sqlalchemy", "asyncpg"} <= installed & named


def test_the_glossary_says_what_each_part_is() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \| .+ \|$", page("glossary"), re.MULTILINE)
    assert words == sorted(words, key=str.lower)
    known = {each for entry in words for each in entry.split(", ")}
    assert known >= {
        *("ASGI", "Starlette", "FastAPI", "uvicorn", "h11", "httptools", "uvloop", "scope"),
        *("receive", "send", "Pydantic", "OpenAPI", "Swagger UI", "ReDoc", "WSGI", "lifespan"),
    }


def test_three_misconceptions_are_named_and_corrected() -> None:
    _, _, text = page("anti-patterns").partition("## Misconceptions\n")
    assert len(re.findall(r"^- \*\*\".+\"\*\* .+\.$", text, re.MULTILINE)) == 3


def test_the_index_says_how_long_each_page_takes() -> None:
    entries = re.findall(r"^\| (\[.*?) \| (\d+) \|", page("index"), re.MULTILINE)
    for titles, minutes in entries:
        assert int(minutes) == sum(
            reading_minutes(page(Path(link).stem)) for link in linked(titles)
        )
    assert len(entries) > 15


def reading_minutes(text: str) -> int:
    """Return the minutes that a page takes, at 200 words a minute without its code."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return math.ceil(len(re.findall(r"\w+", re.sub(r"\]\([^)]*\)", "]", prose))) / 200)


def test_the_pages_show_what_was_measured() -> None:
    for path, shown in report.PAGES.items():
        text = path.read_text(encoding="utf-8")
        assert report.with_tables(text, report.kept(), shown) == text
        assert all(each.begin in text for each in shown)


def test_the_services_lint_finds_what_the_guide_calls_a_mistake() -> None:
    text = '"""Mistakes."""\n\nimport asyncio\nimport time\n\n' + "\n\n".join(MISTAKES.values())
    service = baking.TEMPLATE / baking.SERVICE
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ruff", "check", "--output-format", "concise"),
            *("--stdin-filename", "app/features/mistakes.py", "-"),
        ],
        cwd=service,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(re.findall(r": ([A-Z]+\d+) ", done.stdout))
    assert found >= set(MISTAKES), done.stdout


def test_the_tour_of_uvicorn_names_what_is_there() -> None:
    named = re.findall(
        r"^\| `uvicorn/([\w/]+)\.py` \| `([\w.]+)` \|", page("uvicorn"), re.MULTILINE
    )
    assert len(named) > 15
    for path, name in named:
        found: Any = importlib.import_module(f"uvicorn.{path.replace('/', '.')}")
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)


def test_what_a_decorator_leaves_behind_is_in_fastapi() -> None:
    for name in re.findall(r"`((?:APIRouter|APIRoute|FastAPI)\.\w+)`", page("registration")):
        kind, _, member = name.partition(".")
        found = getattr(fastapi.routing, kind, None) or fastapi.FastAPI
        assert hasattr(found, member) or member in found.__annotations__, name
    router, application = fastapi.APIRouter(), fastapi.FastAPI()
    router.get("/games/{game_id}")(lambda game_id: game_id)
    before = len(application.routes)
    application.include_router(router, prefix="/api")
    assert len(application.routes) == before + 1
    paths = [each.path for each in fastapi.routing.iter_route_contexts(application.routes)]
    assert "/api/games/{game_id}" in paths
    with pytest.raises(fastapi.exceptions.FastAPIError):

        @application.get("/")
        def cannot_be_understood(given: socket.socket) -> None: ...


def test_the_defaults_of_libraries_are_those_that_the_guide_names() -> None:
    pool = inspect.signature(QueuePool.__init__).parameters
    defaults = [pool[name].default for name in ("pool_size", "max_overflow", "timeout")]
    assert defaults == [5, 10, 30]
    assert "5 connections, 10 more as overflow and 30 s" in page("pools")

    async def threads() -> float:
        return anyio.to_thread.current_default_thread_limiter().total_tokens

    assert asyncio.run(threads()) == 40
    assert "40 by default as in anyio" in page("dispatch")


def test_dependencies_open_and_close_as_the_page_shows() -> None:
    sample = load("life_cycle")
    events: list[str] = sample.events
    told = told_when_sent(sample.application, events)
    assert TestClient(told).get("/").json() == "basebase"
    [shown] = re.findall(r"```text\n(.*?)```", page("dependencies"), re.DOTALL)
    assert events == shown.splitlines()


def told_when_sent(application: ASGIApp, events: list[str]) -> ASGIApp:
    """Wrap an application, to note when its response is complete."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                events.append("response is sent")

        await application(scope, receive, note)

    return wrapped


def load(name: str) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(runpy.run_path(str(SAMPLES / f"{name}.py")))
    return module


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """Run a server with a port of its own; yield its address."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", *(part.format(port=port) for part in command)],
        cwd=SAMPLES,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(SECONDS)


def ask(url: str) -> str:
    give_up = time.monotonic() + SECONDS
    while True:
        with suppress(OSError), urllib.request.urlopen(url) as answer:
            return str(answer.read().decode())
        assert time.monotonic() < give_up, f"{url} did not answer"
        time.sleep(0.1)


def test_the_samples_of_wsgi_and_asgi_answer_alike() -> None:
    uvicorn = ["uvicorn", "--port", "{port}", "--lifespan"]
    servers = [
        ["gunicorn", "--bind", "127.0.0.1:{port}", "--no-control-socket", "wsgi_hello:application"],
        # It fails without an answer to the events of its lifespan.
        [*uvicorn, "on", "asgi_hello:application"],
        [*uvicorn, "auto", "starlette_hello:application"],
        [*uvicorn, "auto", "fastapi_hello:application"],
    ]
    for command in servers:
        with serving(*command) as url:
            assert ask(f"{url}/world") == "Hello, /world!"


def test_a_raw_application_echoes_text_and_bytes() -> None:
    application = load("asgi_hello").application
    with TestClient(application) as client, client.websocket_connect("/") as socket:
        socket.send_text("text")
        assert socket.receive_text() == "text"
        socket.send_bytes(b"bytes")
        assert socket.receive_bytes() == b"bytes"


@pytest.mark.parametrize("name", ["wsgi_hello", "asgi_hello"])
def test_the_page_shows_the_samples_as_they_are(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page("wsgi-and-asgi"), re.DOTALL)
    text = (SAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert sum(block in text for block in blocks) == 1


def test_the_reference_has_every_public_name_with_what_it_says() -> None:
    modules = docs_reference.public()
    assert {"client", "concurrency", "config", "db", "errors", "http", "metrics", "service"} <= {
        module.name.rpartition(".")[2] for module in modules
    }
    for module in modules:
        text = docs_reference.page(module)
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == docs_reference.exported(module)
        _, *parts = re.split(r"^## .+$", text, flags=re.MULTILINE)
        for heading, part in zip(headings, parts, strict=True):
            prose = re.sub(r"```.*?```|\[Source\].*", "", part, flags=re.DOTALL).strip()
            assert prose, f"{module.name}.{heading}"


def test_a_signature_leaves_out_self_and_breaks_when_it_is_long() -> None:
    module = docs_reference.load("slipway_kit.concurrency")
    assert module is not None
    text = docs_reference.page(module)
    assert "async def get(key: K) -> V | None\n" in text
    assert "Batcher(\n    name: str,\n" in text
    assert "    window_seconds: float = 0.01,\n" in text
    assert "@asynccontextmanager\nasync def running(*, grace_seconds: float" in text
    assert "ThreadPoolFull(Overloaded)" in text


def test_pages_are_at_the_paths_of_the_repository_and_links_lead_to_pages(tmp_path: Path) -> None:
    service = "%3C%3Ccookiecutter.project_slug%3E%3E"
    texts = {
        "docs/guide/a.md": f"[b](b.md#x) [c](../../{service}/app/main.py#create_app) `[d](e)`",
        "docs/guide/b.md": "before\n- a list\n  - within\n",
        "kit/docs/contract.md": "| p | `tests/unit/test_clock.py::test_x` |\n",
    }
    assembly = docs_site.Assembly(texts, tmp_path)
    assembly.write_all()
    written = (tmp_path / "docs/guide/a.md").read_text()
    assert written == ("[b](b.md#x) [c](../../source/service/app/main.py.md#create_app) `[d](e)`")
    assert (tmp_path / "docs/guide/b.md").read_text() == "before\n\n- a list\n    - within\n"
    contract = (tmp_path / "kit/docs/contract.md").read_text()
    assert "[`test_x`](../../source/kit/tests/unit/test_clock.py.md#test_x)" in contract
    source = (tmp_path / "source/service/app/main.py.md").read_text()
    assert '<a id="create_app"></a>' in source
    assert "exclude: true" in source


def test_every_page_is_in_the_navigation_and_one_that_it_forgot_is_in_its_last_section() -> None:
    found = docs_site.pages()
    whole = docs_site.navigation(found)
    assert "More:" not in whole
    assert all(docs_site.place(path) in whole for path in found)
    more = docs_site.navigation(found | {"docs/forgotten.md": "# Forgotten\n"})
    assert '  - More: [{"Forgotten": "docs/forgotten.md"}]\n' in more


def test_a_link_to_no_file_is_one_sentence(tmp_path: Path) -> None:
    assembly = docs_site.Assembly({"docs/guide/a.md": "[b](b.md)"}, tmp_path)
    with pytest.raises(docs_site.SiteError, match=r"a\.md links to b\.md, which is no file"):
        assembly.write_all()


def test_a_page_of_the_service_is_as_with_the_default_answers() -> None:
    found = docs_site.pages()
    readme = found[f"{docs_site.SERVICE}/README.md"]
    assert readme.startswith("# Board Games\n")
    assert "<%" not in readme
    assert "<<" not in readme


def test_without_a_network_mermaid_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(docs_mermaid.FetchError, match="check the network"):
        docs_mermaid.script(tmp_path / "cache")
    npm.unlink()
    with pytest.raises(docs_mermaid.FetchError, match="npm is not installed"):
        docs_mermaid.script(tmp_path / "cache")


def test_another_mermaid_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs_mermaid, "fetch", lambda: b"alert(1)")
    with pytest.raises(docs_mermaid.FetchError, match="is not the one"):
        docs_mermaid.script(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
