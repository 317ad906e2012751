"""The line that is written by hand is the one that any other way of logging would write."""

import asyncio
import json
import re
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from slipway_kit.fast import request_records
from slipway_kit.fast.request_records import BatchedRecords
from slipway_kit.http.records import FinishedRequest, Records
from slipway_kit.logs import setup as logs

pytestmark = pytest.mark.anyio


async def coroutine() -> None: ...


def plain() -> None: ...


ENDED = st.builds(
    FinishedRequest,
    method=st.sampled_from(["GET", "POST", "WEBSOCKET"]) | st.text(),
    route=st.none() | st.text(),
    endpoint=st.sampled_from([None, coroutine, plain]),
    status=st.integers(101, 599),
    seconds=st.floats(0, 1000),
    received=st.integers(0, 10**9),
    sent=st.integers(0, 10**9),
    request_id=st.from_regex(r"\A[A-Za-z0-9._:/+=-]{1,128}\Z"),
    trace=st.none(),
)
ONE = FinishedRequest("GET", "/a", coroutine, 200, 0.0123, 0, 0, "id-1", None)


class Recorder:
    """Records with a registry of their own, and what they wrote."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.written: list[str] = []
        self.records = BatchedRecords(Records(self.registry), write=self.written.append)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in "".join(self.written).splitlines()]


@pytest.mark.usefixtures("restored_logs")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ended=ENDED)
async def test_a_line_by_hand_says_what_a_line_of_the_log_says(
    capsys: pytest.CaptureFixture[str], ended: FinishedRequest
) -> None:
    logs.LogSetup(level="INFO", json=True).apply()
    with structlog.contextvars.bound_contextvars(request_id=ended.request_id):
        Records(CollectorRegistry()).add(ended)
    (line,) = capsys.readouterr().out.splitlines()
    recorder = Recorder()
    recorder.records.add(ended)
    await asyncio.sleep(0)
    (ours,), theirs = recorder.lines, json.loads(line)
    shape = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
    assert shape.fullmatch(str(ours.pop("time")))
    assert shape.fullmatch(theirs.pop("time"))
    assert ours == theirs


async def test_a_trace_is_named_by_its_ids() -> None:
    recorder = Recorder()
    recorder.records.write([ONE._replace(trace=("a" * 32, "b" * 16))])
    (line,) = recorder.lines
    assert (line["trace_id"], line["span_id"]) == ("a" * 32, "b" * 16)


async def test_all_requests_of_a_turn_of_the_loop_are_written_at_once() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.records.add(ONE._replace(request_id=f"id-{number}"))
    assert recorder.written == []
    await asyncio.sleep(0)
    assert len(recorder.written) == 1
    assert [line["request_id"] for line in recorder.lines] == ["id-0", "id-1", "id-2"]
    recorder.records.add(ONE)
    await asyncio.sleep(0)
    assert len(recorder.written) == 2


async def test_the_time_is_that_of_the_clock() -> None:
    recorder, before = Recorder(), datetime.now(UTC)
    recorder.records.write([ONE])
    said = datetime.fromisoformat(str(recorder.lines[0]["time"]))
    assert before <= said <= datetime.now(UTC)


async def test_requests_are_counted_with_their_lines() -> None:
    recorder = Recorder()
    recorder.records.write([ONE._replace(status=status) for status in (200, 200, 503)])
    count = recorder.registry.get_sample_value
    labels = {"method": "GET", "handler": "/a"}
    assert count("http_requests_total", labels | {"status": "2xx"}) == 2
    assert count("http_requests_total", labels | {"status": "5xx"}) == 1


async def test_methods_that_strangers_invent_do_not_fill_the_memory() -> None:
    recorder = Recorder()
    recorder.records.write([ONE._replace(method=f"M{number}") for number in range(5000)])
    assert len(recorder.lines) == 5000
    assert len(recorder.records._kinds) <= 4096


@pytest.mark.parametrize(
    ("level", "json", "wanted"),
    [("DEBUG", True, True), ("INFO", True, True), ("WARNING", True, False), ("INFO", False, False)],
)
async def test_lines_that_are_not_written_as_json_are_left_to_the_log(
    level: str, json: bool, wanted: bool
) -> None:
    assert request_records.wanted(logs.LogSetup(level=level, json=json)) is wanted


@pytest.mark.usefixtures("restored_logs")
@pytest.mark.parametrize("traces", [True, False])
async def test_what_the_log_writes_is_what_is_supported(traces: bool) -> None:
    logs.LogSetup(level="INFO", json=True, traces=traces).apply()
    with structlog.contextvars.bound_contextvars(of_whoever="installs it"):
        assert request_records.supported()


async def test_a_processor_of_a_team_sees_every_line() -> None:
    def hide(_: object, __: str, event: EventDict) -> EventDict:
        return event

    assert not request_records.wanted(logs.LogSetup("INFO", json=True, processors=(hide,)))


@pytest.mark.usefixtures("restored_logs")
async def test_lines_of_another_shape_are_left_to_the_log() -> None:
    logs.LogSetup(level="INFO", json=True).apply()
    _, *others = structlog.get_config()["processors"]
    structlog.configure(processors=others)
    assert not request_records.supported()


async def test_records_are_given_and_taken_back() -> None:
    records = Records(CollectorRegistry())
    own = records.add
    request_records.enable(records)
    assert records.add != own
    request_records.disable()
    assert records.add == own
