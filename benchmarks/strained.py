"""Routes that strain one thing each; what they wait for takes a known time."""

import os
import time
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel
from sqlalchemy import text

from slipway_kit.db.sessions import ReadSessionDep
from slipway_kit.service.resources import ResourcesDep

router = APIRouter()

CPU_SECONDS = 0.002
DATABASE_SECONDS = 0.01
THREAD_SECONDS = 0.02
UPSTREAM_SECONDS = 0.05


class Done(BaseModel):
    """A small answer."""

    done: int


def _rounds(seconds: float) -> int:
    """Return how many rounds of `_spin` take so long here."""
    count = 1000
    while True:
        began = time.perf_counter()
        _spin(count)
        spent = time.perf_counter() - began
        if spent > seconds:
            return int(count * seconds / spent)
        count *= 2


def _spin(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number
    return total


_ROUNDS = _rounds(CPU_SECONDS)
_SLEEP = text(f"SELECT pg_sleep({DATABASE_SECONDS})")


@router.get("/small")
async def answer_small() -> Done:
    """Do nothing."""
    return Done(done=1)


@router.get("/cpu")
async def spend_cpu() -> Done:
    """Keep the event loop for `CPU_SECONDS`."""
    return Done(done=_spin(_ROUNDS) % 7)


@router.post("/body")
async def spend_cpu_on_a_body(text: Annotated[str, Body()]) -> Done:
    """Do the same for somebody who sends a text."""
    return Done(done=_spin(_ROUNDS) % 7 + len(text))


@router.get("/database")
async def wait_for_database(session: ReadSessionDep) -> Done:
    """Hold a connection for `DATABASE_SECONDS`."""
    await session.execute(_SLEEP)
    return Done(done=1)


@router.get("/thread")
def wait_in_thread() -> Done:
    """Hold a thread for `THREAD_SECONDS`."""
    time.sleep(THREAD_SECONDS)
    return Done(done=1)


@router.get("/upstream")
async def wait_for_upstream(resources: ResourcesDep) -> Done:
    """Hold an outbound connection for `UPSTREAM_SECONDS`."""
    answer = await resources.http.get(os.environ["UPSTREAM_URL"])
    return Done(done=answer.status_code // 100)
