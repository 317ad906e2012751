"""A link or an anchor that leads nowhere fails the build, and says where it is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import baking
from tools import docs_site

BUILD = """
import pathlib, sys
from tools import docs_site
sys.exit(docs_site.build(pathlib.Path(sys.argv[1])))
"""


def build(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Build a site of one page, with the settings of the whole one."""
    if not (python := os.environ.get("DOCS_PYTHON")):
        baking.missing("DOCS_PYTHON, which `make test-docs` sets,")
    settings, _, _ = (
        (docs_site.CONFIG / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:\n  -")
    )
    shutil.copytree(docs_site.CONFIG / "overrides", folder / "overrides")
    (folder / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (folder / "source/assets").mkdir(parents=True)
    (folder / "source/index.md").write_text(text, encoding="utf-8")
    return subprocess.run(
        [str(python), "-c", BUILD, folder],
        cwd=docs_site.TEMPLATE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_page_whose_links_lead_somewhere_is_built(tmp_path: Path) -> None:
    done = build(tmp_path / "docs", "# Here\n\n[there](#here)\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site/index.html").exists()


@pytest.mark.parametrize("link", ["#there", "nowhere.md", "/index.md"])
def test_a_link_that_leads_nowhere_fails_the_build(link: str, tmp_path: Path) -> None:
    done = build(tmp_path / "docs", f"# Here\n\n[there]({link})\n")
    assert done.returncode == 1
    assert link in done.stderr
