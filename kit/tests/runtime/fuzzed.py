"""The service with one route for each way in, so that there is something to fuzz in any service."""

from collections.abc import AsyncGenerator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Header, Path, Query, UploadFile
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat

from app import main
from slipway_kit.http.openapi import problems
from slipway_kit.http.streams import JsonLines

router = APIRouter(prefix="/fuzzed")

Small = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class Branch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    number: Small | None = None


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["oak", "elm"]
    text: Annotated[str, Field(max_length=200)] = ""
    number: Small | None = None
    # A plain float would take 1e400 for infinity, which JSON cannot answer with.
    height: Annotated[FiniteFloat, Field(ge=0)] = 0
    at: AwareDatetime | None = None
    branches: list[Branch] = []
    named: dict[str, Branch] = {}


class Found(BaseModel):
    number: int
    tags: list[str]
    since: datetime | None
    price: Decimal | None


@router.post("/trees", status_code=201)
async def plant_tree(tree: Tree) -> Tree:
    return tree


@router.get("/numbers/{number}", responses=problems(404))
async def find_number(
    number: Annotated[Small, Path()],
    tags: Annotated[list[str], Query()] = [],  # noqa: B006 (FastAPI copies it)
    since: Annotated[AwareDatetime | None, Query()] = None,
    price: Annotated[Decimal | None, Query(ge=0, max_digits=10)] = None,
    x_reason: Annotated[str, Header(max_length=100)] = "",
) -> Found:
    return Found(number=number, tags=tags, since=since, price=price)


@router.post("/files")
def measure_file(file: UploadFile, comment: Annotated[str, Query()] = "") -> dict[str, int]:
    return {"size": len(file.file.read()), "comment": len(comment)}


@router.get("/lines", response_class=JsonLines)
async def write_lines(count: Annotated[int, Query(ge=0, le=100)] = 3) -> JsonLines:
    async def lines() -> AsyncGenerator[str, None]:
        for number in range(count):
            yield f'{{"number": {number}}}\n'

    return JsonLines(lines())


def create_app() -> FastAPI:
    app = main.create_app()
    app.include_router(router)
    return app
