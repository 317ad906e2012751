import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from tests.support.turns import turns


@pytest.fixture
async def unseen() -> AsyncIterator[list[Any]]:
    """What asyncio complains of, such as an exception that was never retrieved: nothing."""
    found: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    gc.collect()
    await turns()
    loop.set_exception_handler(None)
    assert found == []


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """Undo what `logs.configure` does to the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
