"""The till: a scanner sends game ids, the service answers with price and stock."""

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from app.features.shop import stock as stocks
from app.features.shop.schemas import Scan, ScanError, Stock
from slipway_kit.concurrency import Batcher
from slipway_kit.errors import ServiceError
from slipway_kit.http import close_if_draining


async def serve(socket: WebSocket, stock: Batcher[int, Stock]) -> None:
    """Answer every scan until the till disconnects; an invalid one gets an error message.

    A draining worker closes the socket with 1012 after its next answer, so that the till
    reconnects to another worker. No state and no database connection is kept between scans.
    """
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            scanned = message.get("text") or message.get("bytes") or ""
            answer = await look_up(stock, scanned)
            await socket.send_text(answer.model_dump_json())
            if await close_if_draining(socket):
                return
    except WebSocketDisconnect:
        return


async def look_up(stock: Batcher[int, Stock], scanned: str | bytes) -> Stock | ScanError:
    """Answer one message of a till."""
    try:
        scan = Scan.model_validate_json(scanned)
        return await stocks.look_up(stock, scan.id)
    except ValidationError:
        return ScanError(error='Send {"id": <number>}.')
    except ServiceError as error:
        return ScanError(error=str(error))
