"""The route that is measured, the same wherever it is served."""

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

router = APIRouter()


class Item(BaseModel):
    """A small answer."""

    id: int
    name: str
    query: str | None


@router.get("/items/{item_id}")
async def get_item(item_id: int, q: str | None = None) -> Item:
    """Return a small JSON object that took a path and a query parameter to make."""
    return Item(id=item_id, name="item", query=q)


def bare() -> FastAPI:
    """Return the route on FastAPI and nothing else."""
    app = FastAPI()
    app.include_router(router, prefix="/api/v1")
    return app
