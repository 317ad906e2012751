"""Metrics as a master sets them up, undone afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import values


@contextmanager
def restored_metrics() -> Iterator[None]:
    """Undo `files.install`, which is meant for a whole process, and close the files."""
    before = (values.ValueClass, values.__dict__["MmapedDict"])
    yield
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]  # the package has few types
    values.ValueClass, values.__dict__["MmapedDict"] = before
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
