"""Metrics as a master sets them up, undone afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import values


@contextmanager
def restored_metrics() -> Iterator[None]:
    """Undo `slots.install`, which is meant for a whole process."""
    before = (values.ValueClass, values.__dict__["MmapedDict"])
    yield
    values.ValueClass, values.__dict__["MmapedDict"] = before
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
