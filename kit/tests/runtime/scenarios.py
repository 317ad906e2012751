"""The service with routes that misbehave on request; gunicorn runs it in these tests."""

import asyncio
import atexit
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge
from sqlalchemy import text

from app import main
from kit.tests.runtime.computations import computation
from slipway_kit.db.sessions import ReadSessionDep
from slipway_kit.service.resources import ResourcesDep

log = structlog.get_logger()
# Made while the module is imported, as most people do.
ALIVE = Gauge("scenario_alive", "Workers that live.", multiprocess_mode="livesum")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    match _order():
        case "block":
            stand_still(60)
        case "wait":
            await asyncio.sleep(60)
        case "fail":
            raise RuntimeError("the lifespan fails on request")
    ALIVE.set(1)
    atexit.register(lambda: log.info("exit hook ran"))
    yield
    if _order() == "stay":
        await asyncio.sleep(60)
    log.info("lifespan closed")


def _order() -> str:
    """Read what the next lifespan is to do; the test writes the file."""
    file = Path(os.environ.get("SCENARIO_FILE", "/nonexistent"))
    return file.read_text() if file.exists() else ""


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


router = APIRouter(prefix="/scenarios", lifespan=lifespan)


@router.get("/pid")
async def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@router.get("/scheme")
async def scheme(request: Request) -> dict[str, str]:
    return {"scheme": request.url.scheme}


@router.post("/headers")
async def headers(request: Request) -> dict[str, str]:
    await request.body()
    return {**request.headers, "peer": str(request.client)}


@router.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"received": len(await request.body())}


@router.websocket("/socket")
async def socket(connection: WebSocket, seconds: float = 0) -> None:
    await asyncio.sleep(seconds)
    await connection.accept()
    async for said in connection.iter_text():
        await connection.send_text(said)


@router.websocket("/reader")
async def reader(connection: WebSocket, seconds: float) -> None:
    await connection.accept()
    async for _ in connection.iter_text():
        await asyncio.sleep(seconds)


@router.websocket("/ends")
async def ends(connection: WebSocket) -> None:
    await connection.accept()
    await connection.send_json([connection.scope["client"][0], connection.scope["server"][0]])
    await connection.receive()


@router.get("/ends")
async def ends_of_a_request(request: Request) -> list[str]:
    return [request.scope["client"][0], request.scope["server"][0]]


@router.get("/slow")
async def slow(seconds: float) -> dict[str, int]:
    await asyncio.sleep(seconds)
    return {"pid": os.getpid()}


@router.get("/thread")
def thread(seconds: float) -> dict[str, int]:
    stand_still(seconds)
    return {"pid": os.getpid()}


@router.get("/block")
async def block(seconds: float) -> dict[str, int]:
    stand_still(seconds)
    return {"pid": os.getpid()}


@router.get("/query")
async def query(session: ReadSessionDep) -> dict[str, int]:
    await session.execute(text("SELECT 1"))
    return {"pid": os.getpid()}


@router.get("/compute")
async def compute(resources: ResourcesDep, seconds: float = 0) -> dict[str, int]:
    child = await resources.offload.compute(computation, seconds)
    return {"pid": os.getpid(), "child": child}


@router.head("/own", response_class=StreamingResponse)
@router.get("/endless", response_class=StreamingResponse)
async def endless(seconds: float = 0) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        while True:
            yield "a\n"
            if seconds:
                await asyncio.sleep(seconds)

    return StreamingResponse(lines(), media_type="text/plain")


@router.get("/hold")
async def hold(session: ReadSessionDep, seconds: float) -> dict[str, int]:
    await session.execute(text("SELECT 1"))
    await asyncio.sleep(seconds)
    return {"pid": os.getpid()}


@router.get("/stream", response_class=StreamingResponse)
async def stream(seconds: float) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for _ in range(int(seconds * 10)):
            yield f"{os.getpid()}\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(lines(), media_type="text/plain")


def create_app() -> FastAPI:
    app = main.create_app()
    app.include_router(router)
    return app
