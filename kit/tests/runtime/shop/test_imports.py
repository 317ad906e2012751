import asyncio
import signal

import asyncpg
import httpx2

from app.features.shop import imports
from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import GUNICORN
from slipway_kit.testing.waiting import eventually

# More than one transaction holds.
ROWS = imports.ROWS_PER_TRANSACTION + 100


def catalogue(number: int) -> bytes:
    rows = "".join(f"file {number} game {row},1\n" for row in range(ROWS))
    return f"name,price\n{rows}".encode()


async def count(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM games WHERE name LIKE 'file %'")
    return found


def test_what_was_answered_with_202_is_stored_though_the_service_is_told_to_stop(
    start: Start, migrated_url: str
) -> None:
    service = start(
        GUNICORN,
        WEB_CONCURRENCY=1,
        DATABASE_STATEMENT_TIMEOUT_MS=5000,
        REQUEST_TIMEOUT_SECONDS=6,
        SHUTDOWN_SECONDS=10,
    )
    url = f"http://127.0.0.1:{service.port}/api/v1/games/imports"
    with asyncio.Runner() as runner:
        database = runner.run(asyncpg.connect(migrated_url))
        # Nobody can write games: all that is taken has to wait.
        runner.run(database.execute("BEGIN; LOCK TABLE games IN EXCLUSIVE MODE"))
        for number in range(4):
            answer = httpx2.post(url, files={"file": catalogue(number)})
            assert answer.status_code == 202, answer.text
        service.process.send_signal(signal.SIGTERM)
        # It has drained its requests and closes what it had opened, the newest first.
        eventually(lambda: service.events_so_far("phase closed"))
        assert runner.run(count(database)) == 0
        runner.run(database.execute("COMMIT"))
        assert service.wait_end(seconds=15) == 0
        try:
            assert runner.run(count(database)) == 4 * ROWS
            assert not service.events("queued work abandoned")
            assert len(service.events("games imported")) == 4
        finally:
            runner.run(database.execute("DELETE FROM games WHERE name LIKE 'file %'"))
            runner.run(database.close())
