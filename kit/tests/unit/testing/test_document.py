import json
from pathlib import Path

from fastapi import FastAPI

from slipway_kit.testing import checks


def pots(*, with_size: bool = False, title: str = "Pots") -> FastAPI:
    app = FastAPI(title=title)

    @app.get("/pots")
    async def list_pots() -> None: ...

    if with_size:

        @app.get("/size")
        async def get_size() -> None: ...

    return app


def agree(app: FastAPI, path: Path) -> Path:
    path.write_text(json.dumps(app.openapi()), encoding="utf-8")
    return path


def test_a_document_that_is_the_same_but_for_its_title_is_agreed_on(tmp_path: Path) -> None:
    agreed = agree(pots(), tmp_path / "openapi.json")
    assert checks.document(pots(title="Jugs"), agreed) == []


def test_each_place_that_differs_is_named_with_the_command_that_agrees_to_it(
    tmp_path: Path,
) -> None:
    agreed = agree(pots(), tmp_path / "openapi.json")
    assert checks.document(pots(with_size=True), agreed) == [
        "paths /size differs from openapi.json; if you meant it: make openapi"
    ]


def test_a_service_without_routes_needs_no_file_and_one_with_routes_does(tmp_path: Path) -> None:
    nowhere = tmp_path / "openapi.json"
    assert checks.document(FastAPI(), nowhere) == []
    [fault] = checks.document(pots(), nowhere)
    assert fault.startswith("openapi.json is missing; if you meant it: make openapi")
