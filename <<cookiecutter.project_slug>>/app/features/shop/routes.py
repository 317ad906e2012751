"""HTTP routes of the shop; each is a few lines that call the module with the logic."""

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
        '`{"id": 1}` is answered with `{"id": 1, "price": "49.90", "in_stock": true}`, a wrong one '
        'with `{"error": "..."}`. After 1012 (service restart) a till connects again.'
    )
}
router = APIRouter(prefix="/games", tags=["games"])

After = Annotated[int, Query(ge=0, le=2**63 - 1, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=100, description="games of a page, at most")]
Id = Annotated[GameId, Path()]
Budget = Annotated[
    Decimal,
    Query(
        gt=0,
        le=bundle.MAX_BUDGET,
        decimal_places=2,
        description="what may be spent",
        examples=["50.00"],
    ),
]
CatalogueFile = Annotated[
    UploadFile,
    File(
        description="CSV in UTF-8 with the columns name, price and, if wanted, in_stock",
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
    # One more than asked for tells whether there is a next page.
    found = await queries.page(resources.database, after=after, limit=limit + 1)
    return GamePage.of(found, limit=limit)


@router.post(
    "",
    status_code=201,
    responses=problems(409) | answer(201, headers={"Location": "the path of the new game"}),
)
async def add_game(  # noqa: PLR0913, PLR0917 - FastAPI hands in by parameter what a route needs
    new: GameIn,
    session: SessionDep,
    resources: ResourcesDep,
    shop: ShopDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
) -> GameOut:
    """Add a game; it is announced once the answer is out."""
    game = GameOut.model_validate(await queries.add(session, new))
    response.headers["Location"] = request.url_for("get_game", game_id=game.id).path
    background.add_task(announcements.start, resources, shop.announce_url, game)
    return game


@router.get("/export", response_class=JsonLines, responses=EXPORTED)
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
def check_import(file: CatalogueFile) -> ImportReport:
    """Report what a CSV file holds without storing it.

    Parsing takes its time, so this is a plain `def`: FastAPI runs it in the thread pool.
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
    """Take a CSV file; its games are stored soon after and appear in the list at `Location`.

    A game that is there by name gets the new price and stock; rows with errors are left out.
    A file that is taken waits for a database that is away, two minutes at most. It is lost when
    the service is killed before that; to send it again does no harm.
    """
    catalogue = await resources.offload.blocking(
        lambda: imports.read_some(file.file.read()), purpose=imports.THREADS
    )
    shop.imports.put(catalogue.games)
    response.headers["Location"] = request.url_for("list_games").path
    return catalogue.report


@router.get("/summary", responses=answer(200, headers={"Age": "its age in seconds"}))
async def summarise_games(shop: ShopDep, response: Response) -> Summary:
    """Give the catalogue at a glance; the header `Age` and `as_of` say from when it is."""
    summary = await shop.summaries.get()
    response.headers["Age"] = str(int(shop.summaries.age(summary).total_seconds()))
    return summary


@router.get("/bundle")
async def choose_bundle(budget: Budget, resources: ResourcesDep) -> Bundle:
    """Choose the games that use up a budget best, out of the newest hundred in stock.

    They cost as much as possible together, and of equal sums the one with most games wins.
    """
    # Not the session of the request: it would keep its connection during the computation.
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


@router.get("/{game_id}/stock", responses=problems(404))
async def get_stock(game_id: Id, shop: ShopDep) -> Stock:
    """Give price and stock of one game; requests that arrive together share one query."""
    return await stock.look_up(shop.stock, game_id)


@router.get("/{game_id}/advice", response_class=EventStream, responses=problems(404) | ADVISED)
async def advise(game_id: Id, resources: ResourcesDep, shop: ShopDep) -> EventStream:
    """Relay what the assistant says of a game, as server-sent events.

    Each message holds some words as `{"text": ...}`, and `done` is the last event.
    When the assistant breaks off, the last event is `error` with a `detail`.
    """
    # Not the session of the request: the assistant takes its time.
    async with resources.database.reading() as session:
        game = GameOut.model_validate(await queries.get(session, game_id))
    return EventStream(advice.events(shop.assistant, game))
