"""HTTP routes of the shop; the logic is in the other modules."""

from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Annotated

from fastapi import (
    APIRouter,
    BackgroundTasks,
    File,
    Path,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
)

from app.features.shop import advice, announcements, bundle, imports, queries, stock, till
from app.features.shop.models import Game
from app.features.shop.resources import ShopDep, lifespan
from app.features.shop.schemas import (
    Bundle,
    GameId,
    GameIn,
    GameOut,
    GamePage,
    ImportReport,
    Stock,
    Summary,
)
from slipway_kit.db import ReadSessionDep, SessionDep
from slipway_kit.http import EventStream, JsonLines, answer, problems
from slipway_kit.service import ResourcesDep

__all__ = ["lifespan", "router"]

TAGS = {
    "games": (
        "The catalogue.\n\n"
        "Tills ask for prices over a WebSocket at `/api/v1/games/till`: each message "
        '`{"id": 1}` is answered with `{"id": 1, "price": "49.90", "in_stock": true}`, an invalid '
        'one with `{"error": "..."}`. After 1012 (service restart) a till reconnects.'
    )
}
router = APIRouter(prefix="/games", tags=["games"])

After = Annotated[int, Query(ge=0, le=2**63 - 1, description="`next` of the previous page")]
Limit = Annotated[int, Query(ge=1, le=100, description="most games of the page")]
Id = Annotated[GameId, Path()]
Budget = Annotated[
    Decimal,
    Query(
        gt=0,
        le=bundle.MAX_BUDGET,
        decimal_places=2,
        description="the budget",
        examples=["50.00"],
    ),
]
CatalogueFile = Annotated[
    UploadFile,
    File(
        description="CSV in UTF-8 with the columns name, price and, optionally, in_stock",
        examples=["name,price\nCatan,49.90\n"],
    ),
]
EXPORTED = answer(
    200,
    media_type=JsonLines.media_type,
    example='{"id":1,"name":"Catan","price":"49.90","in_stock":true}\n',
)
ADVISED = answer(
    200,
    media_type=EventStream.media_type,
    example='data: {"text":"Catan "}\n\nevent: done\ndata: {"pieces":1}\n\n',
)


@router.get("")
async def list_games(resources: ResourcesDep, after: After = 0, limit: Limit = 50) -> GamePage:
    """List games in the order of their ids."""
    # One extra row shows whether there is a next page.
    found = await queries.page(resources.database, after=after, limit=limit + 1)
    return GamePage.of(found, limit=limit)


@router.post(
    "",
    status_code=201,
    responses=problems(409) | answer(201, headers={"Location": "the path of the new game"}),
)
async def add_game(  # noqa: PLR0913, PLR0917 - FastAPI passes dependencies as parameters
    new: GameIn,
    session: SessionDep,
    resources: ResourcesDep,
    shop: ShopDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
) -> GameOut:
    """Add a game; it is announced after the response."""
    game = GameOut.model_validate(await queries.add(session, new))
    response.headers["Location"] = request.url_for("get_game", game_id=game.id).path
    background.add_task(announcements.start, resources, shop.announce_url, game)
    return game


@router.get("/export", response_class=JsonLines, responses=EXPORTED)
async def export_games(resources: ResourcesDep) -> JsonLines:
    """Stream the whole catalogue, one JSON object a line."""

    async def lines() -> AsyncGenerator[str, None]:
        # A stream outlives the session of the request.
        async for games in queries.pages(resources.database):
            yield "".join(f"{GameOut.model_validate(game).model_dump_json()}\n" for game in games)

    return JsonLines(lines())


@router.post("/imports/check")
def check_import(file: CatalogueFile) -> ImportReport:
    """Check a CSV file without storing it.

    Parsing blocks, so this is a plain `def`, which FastAPI runs in the thread pool.
    """
    return imports.read(file.file.read()).report


@router.post(
    "/imports",
    status_code=202,
    responses=answer(202, headers={"Location": "the path of the list of games"}),
)
async def start_import(
    file: CatalogueFile,
    resources: ResourcesDep,
    shop: ShopDep,
    request: Request,
    response: Response,
) -> ImportReport:
    """Queue a CSV file; its games are stored soon and appear in the list at `Location`.

    An existing name gets the new price and stock; rows with errors are skipped. While the database
    is unavailable the import is retried for two minutes. A killed service loses it; sending the
    file again is safe.
    """
    catalogue = await resources.offload.blocking(
        lambda: imports.read_some(file.file.read()), purpose=imports.THREADS
    )
    shop.imports.put(catalogue.games)
    response.headers["Location"] = request.url_for("list_games").path
    return catalogue.report


@router.get("/summary", responses=answer(200, headers={"Age": "its age in seconds"}))
async def summarise_games(shop: ShopDep, response: Response) -> Summary:
    """Get the summary of the catalogue; `Age` and `as_of` tell when it was computed."""
    summary = await shop.summaries.get()
    response.headers["Age"] = str(int(shop.summaries.age(summary).total_seconds()))
    return summary


@router.get("/bundle")
async def choose_bundle(budget: Budget, resources: ResourcesDep) -> Bundle:
    """Choose the games that use a budget best, out of the newest hundred in stock.

    Their total price is as high as possible; of equal sums the one with the most games wins.
    """
    # Not the session of the request: it would hold a connection during the computation.
    async with resources.database.reading() as session:
        games = await queries.offers(session, budget=budget, limit=bundle.MAX_OFFERS)
    offers = [bundle.Offer(game.id, bundle.cents(game.price)) for game in games]
    chosen = await resources.offload.compute(bundle.choose, offers, bundle.cents(budget))
    return Bundle.of([game for game in games if game.id in chosen])


@router.websocket("/till")
async def serve_till(socket: WebSocket, shop: ShopDep) -> None:
    """Answer the scans of a till with price and stock."""
    await till.serve(socket, shop.stock)


@router.get("/{game_id}", response_model=GameOut, responses=problems(404))
async def get_game(game_id: Id, session: ReadSessionDep) -> Game:
    """Get one game."""
    return await queries.get(session, game_id)


@router.put("/{game_id}", response_model=GameOut, responses=problems(404, 409))
async def replace_game(game_id: Id, new: GameIn, session: SessionDep) -> Game:
    """Replace one game."""
    return await queries.replace(session, game_id, new)


@router.delete("/{game_id}", status_code=204, responses=problems(404))
async def remove_game(game_id: Id, session: SessionDep) -> None:
    """Delete one game."""
    await queries.remove(session, game_id)


@router.get("/{game_id}/stock", responses=problems(404))
async def get_stock(game_id: Id, shop: ShopDep) -> Stock:
    """Get price and stock of one game; concurrent requests share one query."""
    return await stock.look_up(shop.stock, game_id)


@router.get("/{game_id}/advice", response_class=EventStream, responses=problems(404) | ADVISED)
async def advise(game_id: Id, resources: ResourcesDep, shop: ShopDep) -> EventStream:
    """Relay the advice of an assistant on a game, as server-sent events.

    Each message holds some words as `{"text": ...}`, and `done` is the last event.
    When the assistant fails midway, the last event is `error` with a `detail`.
    """
    # Not the session of the request: it would hold a connection while the assistant answers.
    async with resources.database.reading() as session:
        game = GameOut.model_validate(await queries.get(session, game_id))
    return EventStream(advice.events(shop.assistant, game))
