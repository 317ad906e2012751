import json
import logging
import re
import sys
import warnings

import pytest
import structlog

from slipway_kit.logs import setup as logs

pytestmark = pytest.mark.usefixtures("restored_logs")


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lines_of_ours_and_of_libraries_have_the_same_shape(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.LogSetup(level="INFO", json=True).apply()
    with structlog.contextvars.bound_contextvars(request_id="id-1"):
        structlog.get_logger().info("ours", answer=42)
        logging.getLogger("uvicorn.error").info("theirs %s", "too")
    ours, theirs = written(capsys)
    assert (ours["event"], ours["answer"], ours["request_id"]) == ("ours", 42, "id-1")
    assert (theirs["event"], theirs["logger"]) == ("theirs too", "uvicorn.error")
    assert ours.keys() - {"answer"} == theirs.keys() - {"logger"}


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.LogSetup(level="WARNING", json=True).apply()
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").error("loud")
    assert [line["event"] for line in written(capsys)] == ["loud"]


def test_uvicorn_writes_no_line_of_its_own_for_a_request() -> None:
    logging.getLogger("uvicorn.access").addHandler(logging.NullHandler())
    logs.LogSetup(level="INFO", json=True).apply()
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_no_library_writes_what_requests_and_calls_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.LogSetup(level="DEBUG", json=True).apply()
    server = logging.getLogger("uvicorn.error")
    for path in ("uvicorn/protocols/websockets/websockets_impl.py", "websockets/server.py"):
        for level in (logging.INFO, logging.ERROR):
            server.handle(server.makeRecord("x", level, path, 1, f"{level}", (), None))
    for name in ("httpx", "httpcore.http11"):
        logging.getLogger(name).info("GET https://api.example/?token=hunter2")
    assert [line["event"] for line in written(capsys)] == [str(logging.ERROR)] * 2


def test_a_traceback_is_one_line_of_json_without_local_variables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.LogSetup(level="INFO", json=True).apply()
    password = "very" + "secret"
    try:
        int(password[:0])
    except ValueError:
        structlog.get_logger().exception("ours")
        logging.getLogger("library").exception("theirs")
    for line in written(capsys):
        assert "ValueError" in str(line["exception"])
        assert password not in str(line)


def test_without_json_lines_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.LogSetup(level="INFO", json=False).apply()
    structlog.get_logger().info("ours", answer=42)
    line = capsys.readouterr().out
    assert "ours" in line
    assert "\x1b" not in line, "colours are for terminals"


def test_warnings_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.LogSetup(level="INFO", json=True).apply()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = written(capsys)
    assert "DeprecationWarning: old" in str(line["event"])
    assert sys.stdout


def test_a_console_has_the_time_first_and_a_request_in_one_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.LogSetup(level="INFO", json=False).apply()
    request = {"method": "GET", "route": "/games/{game_id}", "status": 200, "ms": 1.5, "mode": None}
    structlog.get_logger().info("request", **request)
    logging.getLogger("library").info("theirs")
    ours, theirs = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d \[info     \] 200 GET /games/\{game_id\} +ms=1\.5", ours
    ), ours
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info     \] theirs +\[library\]\s*", theirs), theirs


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_console_shows_how_the_service_starts_on_level_debug_alone(
    capsys: pytest.CaptureFixture[str], level: str
) -> None:
    logs.LogSetup(level=level, json=False).apply()
    structlog.get_logger().info("phase opened", phase="database")
    for name in ("uvicorn.error", "gunicorn.error", "alembic.runtime.migration"):
        logging.getLogger(name).info("it starts")
        logging.getLogger(name).warning("it stumbles")
    printed = capsys.readouterr().out
    assert printed.count("it stumbles") == 3
    assert printed.count("it starts") == (3 if level == "DEBUG" else 0)
    assert printed.count("phase opened") == (1 if level == "DEBUG" else 0)


def test_json_has_every_line_of_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    logs.LogSetup(level="INFO", json=False).apply()
    logs.LogSetup(level="INFO", json=True).apply()
    structlog.get_logger().info("phase opened", phase="database")
    logging.getLogger("uvicorn.error").info("it starts")
    assert [line["event"] for line in written(capsys)] == ["phase opened", "it starts"]
