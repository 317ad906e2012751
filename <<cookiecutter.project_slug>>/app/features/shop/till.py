"""The till's WebSocket: a scanner sends game ids, the service answers with price and stock."""

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from app.features.shop import queries
from app.features.shop.schemas import Scan, ScanError, Stock
from app.kit.database import Database
from app.kit.errors import ServiceError
from app.kit.resources import ResourcesDep

router = APIRouter()


@router.websocket("/till")
async def till(socket: WebSocket, resources: ResourcesDep) -> None:
    """Answer every scan until the till hangs up; a bad one gets an error, not a hang-up.

    Nothing is kept between scans, no connection either, so any worker can serve any till.
    """
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            scanned = message.get("text") or message.get("bytes") or ""
            answer = await look_up(resources.database, scanned)
            await socket.send_text(answer.model_dump_json())
    except WebSocketDisconnect:
        return


async def look_up(database: Database, scanned: str | bytes) -> Stock | ScanError:
    """Answer one message of a till."""
    try:
        scan = Scan.model_validate_json(scanned)
        async with database.reading() as session:
            return Stock.model_validate(await queries.get(session, scan.id))
    except ValidationError:
        return ScanError(error='Send {"id": <number>}.')
    except ServiceError as error:
        return ScanError(error=str(error))
