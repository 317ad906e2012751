import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slipway_kit.http import Drain
from slipway_kit.runtime import runtime_of


@pytest.mark.parametrize(
    ("probe", "body"),
    [
        ("/livez", {"status": "ok"}),
        ("/readyz", {"status": "ok"}),
        ("/startupz", {"status": "ok"}),
        ("/health", {"status": "healthy"}),
    ],
)
def test_a_service_with_the_newest_schema_passes_every_probe(
    probe: str, body: dict[str, str], client: TestClient
) -> None:
    answer = client.get(probe)
    assert (answer.status_code, answer.json()) == (200, body)


def test_a_leaving_service_fails_readiness_alone(app: FastAPI, client: TestClient) -> None:
    runtime_of(app).get(Drain).begin()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "The service is shutting down.")
    assert answer.headers["retry-after"] == "1"
    assert client.get("/livez").status_code == 200
    assert client.get("/health").json() == {"status": "healthy"}


def test_probes_are_no_part_of_the_published_contract(app: FastAPI) -> None:
    assert not {"/livez", "/readyz", "/startupz", "/health"} & app.openapi()["paths"].keys()
