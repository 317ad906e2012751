"""Two hundred routes, of which the last is measured."""

from fastapi import APIRouter, FastAPI

from benchmarks.items import Item

COUNT = 200
router = APIRouter()


def _add(number: int) -> None:
    async def get_item(item_id: int, q: str | None = None) -> Item:
        return Item(id=item_id, name="item", query=q)

    get_item.__name__ = f"get_item_{number}"
    router.get(f"/kind{number}/{{item_id}}")(get_item)


for _number in range(COUNT):
    _add(_number)


def bare() -> FastAPI:
    """Return the routes on FastAPI and nothing else."""
    app = FastAPI()
    app.include_router(router, prefix="/api/v1")
    return app
