import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kit.tests.support.turns import turns


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
