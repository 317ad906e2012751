from fastapi.testclient import TestClient

GAMES = "/api/v1/games"


def test_the_stock_of_a_game_is_its_price_and_whether_it_is_there(client: TestClient) -> None:
    client.post(GAMES, json={"name": "Catan", "price": "49.90", "in_stock": False})
    answer = client.get(f"{GAMES}/1/stock")
    assert answer.status_code == 200
    assert answer.json() == {"id": 1, "price": "49.90", "in_stock": False}


def test_the_stock_of_an_unknown_game_is_not_found(client: TestClient) -> None:
    answer = client.get(f"{GAMES}/1/stock")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no game 1."
