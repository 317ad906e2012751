"""Images with one more revision of the schema, as thin layers on the image of the service."""

import os
import subprocess
import tempfile
from pathlib import Path

from kit.tests.support.paths import MIGRATIONS
from slipway_kit.db.migrations import known_versions
from slipway_kit.dev import cluster as loading
from slipway_kit.dev import image as images

REVISION = "e2e_0002"
GOOD = 'op.create_table("e2e_notes", sa.Column("id", sa.BigInteger, primary_key=True))'
# It fails after it has changed something, which must be undone.
BROKEN = f'{GOOD}\n    op.execute("SELECT 1 / 0")'
FILE = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    op.drop_table("e2e_notes")
"""


def head() -> str | None:
    """Return the newest revision of the service's own; one without a table has none."""
    heads = sorted(known_versions(MIGRATIONS).heads)
    return heads[0] if heads else None


def built(image: str, tag: str, upgrade: str) -> str:
    """Build `image` with one more revision, load it, and return its tag."""
    engine = images.find_engine(os.environ.get("ENGINE", ""))
    base = os.environ.get("IMAGE") or image
    name = f"{base}-{tag}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{REVISION}.py")
        text = FILE.format(revision=REVISION, before=head(), upgrade=upgrade)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        dockerfile = f"FROM {base}\nCOPY {path.name} migrations/versions/\n"
        Path(folder, "Dockerfile").write_text(dockerfile, encoding="utf-8")
        more = os.environ.get("IMAGE_BUILD_ARGS", "")
        command = images.build_command(engine, name, {}, more=more)
        subprocess.run(command, cwd=folder, check=True, timeout=300)
    there = loading.deliver(name, engine=engine, environment=os.environ)
    return there.rpartition(":")[2]
