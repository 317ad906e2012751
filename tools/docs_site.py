"""Build the documentation site into build/site: `make docs`.

Nothing is written twice for it: the pages are those of the repository, at the paths where they are.
Links that leave the pages lead to a page with the source file.
"""

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import jinja2

from tools import docs_mermaid, docs_reference, docs_sources

TEMPLATE = Path(__file__).resolve().parents[1]
SERVICE = "<<cookiecutter.project_slug>>"
BUILD = TEMPLATE / "build/docs"
SITE = TEMPLATE / "build/site"
CACHE = TEMPLATE / "build/cache"
CONFIG = TEMPLATE / "docs/site"
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "docs/adr/*.md"),
    *("docs/guide/*.md", "helm/service/README.md", "kit/*.md", "kit/docs/*.md"),
    *("kit/src/slipway_kit/README.md", f"{SERVICE}/*.md", f"{SERVICE}/docs/*.md"),
)
REFERENCE = "docs/reference"
# Copied as they are, so that pages can show them.
PICTURES = {".svg", ".png"}

FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"`[^`\n]*`|\]\(<?(?P<target>[^)>\s]+)>?\)")
TEST = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<name>test_\w+)`")
ITEM = re.compile(r"( *)(?:[-*]|\d+\.) ")


class SiteError(Exception):
    """The site cannot be built; the text says why."""


def pages() -> dict[str, str]:
    """Return every page by its path in the repository, those of the reference among them."""
    found = {
        str(path.relative_to(TEMPLATE)): path.read_text(encoding="utf-8")
        for pattern in PAGES
        for path in sorted(TEMPLATE.glob(pattern))
    }
    for path, text in found.items():
        if path.startswith(SERVICE):
            found[path] = rendered(text)
    for module in docs_reference.public():
        found[f"{REFERENCE}/{module.name}.md"] = docs_reference.page(module)
    return found


def rendered(text: str) -> str:
    """Return a page of the service as it is with the default answers."""
    answers = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    plain = {name: each[0] if isinstance(each, list) else each for name, each in answers.items()}
    plain["project_slug"] = plain["project_name"].lower().replace(" ", "-")
    plain["description"] = f"The {plain['project_name']} service"
    environment = jinja2.Environment(**answers["_jinja2_env_vars"], autoescape=False)  # noqa: S701 (it is Markdown)
    return environment.from_string(text).render(cookiecutter=plain)


def place(path: str) -> str:
    """Return the path in the site of a page of the repository."""
    return path.replace(SERVICE, "service")


class Assembly:
    """Writes pages below `into`, with the source files and pictures that they lead to."""

    def __init__(self, found: dict[str, str], into: Path) -> None:
        """Take the pages by their paths in the repository."""
        self._pages, self._into = found, into
        self.sources: set[str] = set()

    def write_all(self) -> None:
        """Write every page, then the files that they lead to."""
        for path, text in self._pages.items():
            self._write(place(path), self.page(path, text))
        for path in sorted(self.sources):
            self._write(self._source(path), docs_sources.page(path, TEMPLATE / path))

    def page(self, path: str, text: str) -> str:
        """Return a page as the site has it: its links, its tests and its lists."""
        parts = FENCE.split(text)
        for number in range(0, len(parts), 2):
            part = self._with_tests(path, lists(parts[number]))
            parts[number] = LINK.sub(lambda found: self._link(path, found), part)
        return "".join(parts)

    def _with_tests(self, path: str, text: str) -> str:
        """Make links of the tests that a contract names, which count from the folder above it."""
        up = "../" if posixpath.dirname(path).endswith("docs") else ""
        return TEST.sub(
            lambda test: f"[`{test['name']}`](<{up}{test['file']}#{test['name']}>)", text
        )

    def _link(self, page: str, found: re.Match[str]) -> str:
        link = found["target"]
        if link is None or "://" in link or link.startswith(("#", "mailto:")):
            return found[0]
        target, _, anchor = link.partition("#")
        file = (TEMPLATE / posixpath.dirname(page) / unquote(target)).resolve()
        if not file.is_relative_to(TEMPLATE) or not (
            file.is_file() or str(file.relative_to(TEMPLATE)) in self._pages
        ):
            raise SiteError(f"{page} links to {link}, which is no file of this repository.")
        to = self._place(str(file.relative_to(TEMPLATE)))
        start = posixpath.dirname(place(page)) or "."
        return f"]({quote(posixpath.relpath(to, start))}{'#' if anchor else ''}{anchor})"

    def _place(self, path: str) -> str:
        if path in self._pages:
            return place(path)
        if PurePosixPath(path).suffix in PICTURES:
            target = self._into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(TEMPLATE / path, target)
            return path
        self.sources.add(path)
        return self._source(path)

    @staticmethod
    def _source(path: str) -> str:
        return f"source/{place(path)}.md"

    def _write(self, path: str, text: str) -> None:
        target = self._into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def lists(text: str) -> str:
    """Return text whose lists this Markdown sees: a line before them, four spaces within."""
    lines: list[str] = []
    for line in text.split("\n"):
        item = ITEM.match(line)
        before = lines[-1] if lines else ""
        if item and before.strip() and not ITEM.match(before) and not before.startswith(" "):
            lines.append("")
        lines.append(" " * len(item[1]) + line if item else line)
    return "\n".join(lines)


def navigation(found: dict[str, str]) -> str:
    """Return the settings of mkdocs with the pages of the sections that are generated.

    A page that the navigation forgot is in its last section.
    """
    text = (CONFIG / "mkdocs.yml").read_text(encoding="utf-8")
    sections = {
        "Reference": [path for path in found if path.startswith(f"{REFERENCE}/")],
        "Decisions": [path for path in found if path.startswith("docs/adr/")],
    }
    known = {path for each in sections.values() for path in each}
    sections["More"] = [
        path for path in found if path not in known and not re.search(rf"[ ]{place(path)}\n", text)
    ]
    for section, paths in sections.items():
        listed = [{_title(found[path]): place(path)} for path in paths]
        entry = f"  - {section}: {json.dumps(listed, ensure_ascii=False)}\n" if listed else ""
        text = text.replace(f"  - {section}: []\n", entry)
    return text


def _title(text: str) -> str:
    title = text.partition("\n")[0].removeprefix("# ")
    return title.removeprefix(f"{docs_reference.LIBRARY}.")


def assemble() -> None:
    """Write into build/docs what mkdocs builds the site from; raise `SiteError`."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(CONFIG / "overrides", BUILD / "overrides")
    found = pages()
    Assembly(found, BUILD / "source").write_all()
    (BUILD / "mkdocs.yml").write_text(navigation(found), encoding="utf-8")
    assets = BUILD / "source/assets"
    assets.mkdir()
    shutil.copyfile(CONFIG / "extra.css", assets / "extra.css")
    (assets / "mermaid.min.js").write_bytes(docs_mermaid.script(CACHE))


def main() -> int:
    """Build the site and return the exit status."""
    try:
        assemble()
    except (SiteError, LookupError, docs_mermaid.FetchError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    status = build()
    if not status:
        print(f"The site is {SITE}/index.html; serve the folder to search in it.")
    return status


def build(folder: Path = BUILD) -> int:
    """Have mkdocs build the site of `folder`, and return its status; a warning fails it."""
    # `--quiet` would hide warnings from `--strict` too.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    command += ["--config-file", str(folder / "mkdocs.yml")]
    # The theme would advertise its successor.
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, env=quiet, check=False, capture_output=True, text=True)
    if built.returncode:
        print(built.stderr, file=sys.stderr)
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
