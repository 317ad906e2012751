"""Mermaid, which draws the diagrams of the site: fetched from npm once, and checked by its hash.

It has 3.4 MB, so it is not in the repository; and the site asks no other host for it.
"""

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "11.17.2"
SHA256 = (
    "581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8"  # pragma: allowlist secret
)
SCRIPT = "package/dist/mermaid.min.js"
_PATIENCE = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"]


class FetchError(Exception):
    """Mermaid cannot be had; the text says why and what to do."""


def script(cache: Path) -> bytes:
    """Return the script, from `cache` when it is there; raise `FetchError`."""
    kept = cache / f"mermaid-{VERSION}.min.js"
    if not kept.exists() or digest(kept.read_bytes()) != SHA256:
        content = fetch()
        if digest(content) != SHA256:
            raise FetchError(
                f"Mermaid {VERSION} from npm is not the one that tools/docs_mermaid.py names:"
                " ask who runs your registry before you change the hash."
            )
        cache.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    return kept.read_bytes()


def fetch() -> bytes:
    """Return the script out of npm's package; raise `FetchError`."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"mermaid@{VERSION}", "--silent", *_PATIENCE]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise FetchError("npm is not installed: it brings Mermaid for the diagrams.") from None
        if done.returncode:
            raise FetchError(
                f"npm cannot fetch Mermaid {VERSION}: check the network and npm's registry,"
                " and run `make docs` again."
            )
        [package] = Path(folder).glob("*.tgz")
        with tarfile.open(package) as archive:
            found = archive.extractfile(SCRIPT)
            assert found is not None  # noqa: S101 (a file, in every version)
            return found.read()


def digest(content: bytes) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
