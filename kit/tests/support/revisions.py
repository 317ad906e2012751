"""Migrations that a test writes for itself."""

import shutil
from pathlib import Path

from kit.tests.support.paths import MIGRATIONS

REVISION = '''
"""A revision of this test."""

from alembic import op

revision = "{revision}"
down_revision = {down}


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    op.execute("DROP TABLE t{revision}")
'''


def write(folder: Path) -> Path:
    """Write two revisions; the second builds its index concurrently."""
    (folder / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "env.py", folder)
    add(folder, "a1", None, 'op.execute("CREATE TABLE ta1 AS SELECT generate_series(1, 9) AS n")')
    concurrently = 'op.execute("CREATE INDEX CONCURRENTLY ia2 ON ta1 (n)")'
    block = f"with op.get_context().autocommit_block():\n        {concurrently}"
    add(folder, "a2", "a1", f'op.execute("CREATE TABLE ta2 ()")\n    {block}')
    return folder


def add(folder: Path, revision: str, down: str | None, upgrade: str) -> None:
    text = REVISION.format(revision=revision, down=repr(down), upgrade=upgrade)
    (folder / "versions" / f"{revision}.py").write_text(text)
