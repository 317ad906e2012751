"""A table and routes of their own: the kit is tested without any feature."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress

from fastapi import APIRouter, BackgroundTasks, HTTPException
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_kit.db.sessions import ReadSessionDep, SessionDep
from slipway_kit.http.streams import JsonLines
from slipway_kit.service.resources import ResourcesDep

CREATE = """
CREATE TABLE notes (text text UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE lines AS SELECT generate_series(1, 5000) AS number;
"""

router = APIRouter(prefix="/notes")


class Held:
    """A request that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()


held = Held()


@router.post("/{name}", status_code=201)
async def add(name: str, session: SessionDep) -> dict[str, str]:
    await session.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
    return {"name": name}


@router.post("/{name}/then/{status}")
async def add_then_fail(name: str, status: int, session: SessionDep) -> None:
    await session.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
    if status == 500:
        raise ZeroDivisionError
    raise HTTPException(status)


@router.post("/{name}/after-a-caught-error", status_code=201)
async def add_after_a_caught_error(
    name: str, session: SessionDep, *, savepoint: bool = False
) -> None:
    await session.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
    with suppress(DBAPIError):
        if savepoint:
            async with session.begin_nested():
                await session.execute(text("SELECT 1 / 0"))
        else:
            await session.execute(text("SELECT 1 / 0"))


@router.post("/{name}/late/background")
async def add_late(name: str, session: SessionDep, background: BackgroundTasks) -> None:
    background.add_task(session.execute, text("INSERT INTO notes VALUES ('late')"))


@router.post("/{name}/late/stream")
async def add_in_a_stream(name: str, session: SessionDep) -> JsonLines:
    async def lines() -> AsyncGenerator[str, None]:
        await session.execute(text("INSERT INTO notes VALUES ('late')"))
        yield "late"

    return JsonLines(lines())


@router.post("/{name}/raises/{sqlstate}")
async def add_and_raise(name: str, sqlstate: str, session: SessionDep) -> None:
    await session.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$"
    await session.execute(text(raised))


@router.get("/backend")
async def backend(session: ReadSessionDep) -> int:
    found: int = (await session.scalars(text("SELECT pg_backend_pid()"))).one()
    return found


@router.post("/{name}/held")
async def add_and_wait(name: str, session: SessionDep) -> None:
    await session.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
    held.reached.set()
    await held.go_on.wait()


@router.post("/{name}/counted-after", status_code=202)
async def add_and_count_after(
    name: str, session: SessionDep, resources: ResourcesDep, background: BackgroundTasks
) -> None:
    await session.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
    background.add_task(count, resources)


async def count(resources: ResourcesDep) -> None:
    async with resources.database.reading() as session:
        counted.append(await session.scalar(text("SELECT count(*) FROM notes")))


counted: list[int | None] = []


@router.get("/sleep/{seconds}")
async def sleep(seconds: float, session: ReadSessionDep) -> None:
    await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


async def ask_before_and_after(
    opened: AbstractAsyncContextManager[AsyncSession],
    something_happens: Callable[[], Awaitable[None]],
) -> None:
    """Run two statements in one session and let something happen between them."""
    async with opened as session:
        await session.execute(text("SELECT 1"))
        await something_happens()
        await session.execute(text("SELECT 1"))


@router.get("/own-timeout")
async def own_timeout(session: SessionDep) -> None:
    raise TimeoutError


@router.get("/stream")
async def stream(resources: ResourcesDep) -> JsonLines:
    async def lines() -> AsyncGenerator[str, None]:
        async with resources.database.transaction() as session:
            rows = await session.stream_scalars(text("SELECT number FROM lines"))
            async for number in rows:
                yield f"{number}\n"

    return JsonLines(lines())
