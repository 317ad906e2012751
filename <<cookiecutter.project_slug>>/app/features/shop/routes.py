"""HTTP routes of the shop; each is a few lines that call the module with the logic."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Query, Request, Response, UploadFile

from app.features.shop import announcements, imports, queries, till
from app.features.shop.models import Game
from app.features.shop.schemas import GameId, GameIn, GameOut, GamePage, ImportReport
from app.kit.database import ReadSessionDep, SessionDep
from app.kit.openapi import problems
from app.kit.resources import ResourcesDep
from app.kit.streams import JsonLines

TAGS = {
    "games": (
        "The catalogue.\n\n"
        "Tills ask for prices over a WebSocket at `/api/v1/games/till`: each message "
        '`{"id": 1}` is answered with `{"id": 1, "price": "49.90", "in_stock": true}`, a wrong one '
        'with `{"error": "..."}`.'
    )
}
router = APIRouter(prefix="/games", tags=["games"])
router.include_router(till.router)

After = Annotated[int, Query(ge=0, le=2**63 - 1, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=100, description="games of a page, at most")]
Id = Annotated[GameId, Path()]


@router.get("")
async def list_games(session: ReadSessionDep, after: After = 0, limit: Limit = 50) -> GamePage:
    """List games in the order of their ids."""
    # One more than asked for tells whether there is a next page.
    found = await queries.page(session, after=after, limit=limit + 1)
    games = [GameOut.model_validate(game) for game in found[:limit]]
    return GamePage(games=games, next=games[-1].id if len(found) > limit else None)


@router.post("", status_code=201, responses=problems(409))
async def add_game(  # noqa: PLR0913, PLR0917 - FastAPI hands in by parameter what a route needs
    new: GameIn,
    session: SessionDep,
    resources: ResourcesDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
) -> GameOut:
    """Add a game; it is announced once the answer is out."""
    game = GameOut.model_validate(await queries.add(session, new))
    response.headers["Location"] = request.url_for("get_game", game_id=game.id).path
    background.add_task(announcements.start, resources.tasks, game)
    return game


@router.get("/export", response_class=JsonLines)
async def export_games(resources: ResourcesDep) -> JsonLines:
    """Stream the whole catalogue, one JSON object a line."""

    async def lines() -> AsyncGenerator[str, None]:
        # A stream outlives the request's session: it opens its own transaction.
        async with resources.database.transaction() as session:
            async for games in (await queries.every(session)).partitions():
                yield "".join(
                    f"{GameOut.model_validate(game).model_dump_json()}\n" for game in games
                )

    return JsonLines(lines())


@router.post("/imports/check")
def check_import(file: UploadFile) -> ImportReport:
    """Report what a CSV file holds without storing it.

    Parsing takes its time, so this is a plain `def`: FastAPI runs it in the thread pool.
    """
    return imports.check(file.file.read())


@router.get("/{game_id}", response_model=GameOut, responses=problems(404))
async def get_game(game_id: Id, session: ReadSessionDep) -> Game:
    """Give one game."""
    return await queries.get(session, game_id)


@router.put("/{game_id}", response_model=GameOut, responses=problems(404, 409))
async def replace_game(game_id: Id, new: GameIn, session: SessionDep) -> Game:
    """Put another game in the place of one."""
    return await queries.replace(session, game_id, new)


@router.delete("/{game_id}", status_code=204, responses=problems(404))
async def remove_game(game_id: Id, session: SessionDep) -> None:
    """Delete one game."""
    await queries.remove(session, game_id)
