"""The benchmark compares what belongs together, and the README shows what was measured."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import conditions, cost, fleet, load, overload, peers, report
from benchmarks.cost import Contest, Goal
from benchmarks.load import Sample
from benchmarks.overload import Answer, Pass, Result, judge
from benchmarks.report import Row
from benchmarks.servers import BenchError, Server, Variant, answers, running


def server(name: str) -> Server:
    return Server(Variant(name, ("true",), Path()), port=0, group=0)


def test_each_variant_is_compared_with_the_first_one_of_its_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = {"bare": [1.0, 100.0, 50.0, 10.0], "full": [1.0, 90.0, 46.0, 9.5]}
    left = {name: iter(found) for name, found in rates.items()}

    def measure(asked: Server, path: str, *, seconds: int) -> Sample:
        assert path == f"/{asked.variant.name}"
        return Sample(next(left[asked.variant.name]), cpu_microseconds=float(seconds))

    monkeypatch.setattr(load, "measure", measure)
    servers = [server("bare"), server("full")]
    goals = (Goal(servers[0].variant, "/bare"), Goal(servers[1].variant, "/full", 0.92))
    contest = Contest("small", "bare", goals)
    bare, full = cost.compare(contest, servers, rounds=3, seconds=2)
    assert (bare.measured, bare.ok) == (1, None)
    assert (full.name, full.measured, full.ok) == ("small: full", 0.92, True)
    assert full.goal == "at least 0.92 of bare"
    assert full.counts["shares"] == [0.9, 0.92, 0.95]
    assert full.counts["requests_a_second"] == 46


LOAD, CALM, PROBES = 0, 1, 2


def seen(*answers: Answer, lateness: float = 0.001) -> Pass:
    return judge(Result(list(answers), [lateness] * 100), 1, 10.0, 2.0, seconds=1)


def test_a_pass_tells_what_was_served_in_time_refused_and_failed() -> None:
    found = seen(
        *((0.1, 0.02, 200, LOAD) for _ in range(8)),
        (0.1, 0.7, 200, LOAD),
        *((0.2, 0.004, 503, LOAD) for _ in range(10)),
        (0.3, 5.0, 0, LOAD),
        (1.4, 0.4, 200, CALM),
        (1.5, 0.01, 200, CALM),
        (0.5, 0.006, 200, PROBES),
    )
    assert (found.goodput, found.p99, found.refused, found.failed) == (0.8, 0.7, 10, 1)
    assert (found.refusal_p99, found.probe_worst, found.probe_failures) == (0.004, 0.006, 0)
    assert found.by_route == (0.4,)
    # What was due 0.4 s into the calm was late still.
    assert found.recovery == 0.4
    assert not found.void
    assert not found.keeps(0.5)


def test_a_pass_keeps_its_goals_when_all_of_them_are_reached() -> None:
    good = [(0.1, 0.02, 200, LOAD)] * 9 + [(0.1, 0.01, 503, LOAD)]
    assert seen(*good).keeps(0.9)
    assert not seen(*good[1:]).keeps(0.9)
    assert not seen(*good, (0.1, 0.06, 503, LOAD)).keeps(0.9)
    assert seen(*good, (0.1, 0.06, 503, LOAD)).keeps(0.9, cheap=True)
    assert not seen(*good, (0.1, 0.001, 503, PROBES)).keeps(0.9)
    assert not seen(*good, (3.5, 0.001, 503, CALM)).keeps(0.9)
    assert seen(*good, lateness=0.006).void


def test_what_refusals_leave_of_a_cheap_route() -> None:
    assert overload.bound(1, 0.2) == 1
    assert overload.bound(4, 0) == 1
    # Of four for one that can be served each refusal costs a tenth: 0.667 are served, 3.33 refused.
    served = overload.bound(4, 0.1)
    assert served + (4 - served) * 0.1 == pytest.approx(1)
    assert overload.bound(9, 0.2) == 0


def test_passes_of_a_late_generator_do_not_count() -> None:
    case = overload.CASES[0]
    good = seen(*[(0.1, 0.02, 200, LOAD)] * 9)
    late = seen(*[(0.1, 0.02, 200, LOAD)], lateness=0.01)
    row = overload.row(case, 2, [good, late, good], 0.0)
    assert (row.measured, row.ok) == (0.9, True)
    assert "1 void" in row.reason
    assert overload.row(case, 2, [late], 0.0).ok is None


def test_a_fleet_serves_what_it_can_and_an_uneven_balancer_costs_some_of_it() -> None:
    even = fleet.cpu_bound(10, 2.0, fleet.evenly, seconds=1)
    uneven = fleet.cpu_bound(10, 0.9, fleet.unevenly, seconds=1)
    assert len(even.took) == pytest.approx(10 * fleet.WORKERS / fleet.PRICE.request, rel=0.15)
    assert even.p99 < 2 * fleet.PATIENCE_SECONDS
    assert uneven.refused > 0
    assert not fleet.cpu_bound(10, 0.5, fleet.evenly, seconds=1).refused


def test_the_one_worker_that_was_measured_is_simulated_beside_it() -> None:
    case, seen = overload.CASES[0], {"capacity": 500.0}
    row = Row(f"overload 2 x, {case.name}", "", 0.9, "", None)
    row.counts.update(passes=[seen] * 3, refusal_us=100.0)
    (again,) = fleet.beside([row, Row("where", "", "here", "", None)])
    assert again.name == "simulated: one worker as measured, 2 x"
    # Each of a thousand a second is served in 2 ms or refused in 0.1 ms.
    assert again.measured == pytest.approx(overload.bound(2, 0.05), abs=0.05)
    assert again.counts["measured"] == 0.9


def test_more_connections_than_a_database_can_work_on_only_wait_there() -> None:
    few, many = (
        fleet.DatabaseFleet(10, fleet.Database(), pool=pool).ask(2.0, seconds=2) for pool in (2, 50)
    )
    assert few.p99 < 0.2
    assert many.p99 > 2 * few.p99
    assert len(few.took) + few.refused == few.asked


def test_an_autoscaler_that_sees_refusals_is_there_sooner() -> None:
    by_cpu, by_demand = (
        fleet.ScalingFleet(4, by_demand=seen, price=fleet.LARGE).ask(4.0, seconds=150)
        for seen in (False, True)
    )
    assert 0 < by_demand < by_cpu < 140


def test_what_another_template_asks_for_is_repaired_where_it_must_be() -> None:
    assert peers.repaired("fastapi >=0.122.0,<1") == "fastapi >=0.122.0,<1"
    assert peers.repaired("prometheus-fastapi-instrumentator >=7.1.0,<8").endswith(">=8")


def test_another_template_that_has_changed_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "router.py"
    file.write_text("router = None\n")
    with pytest.raises(BenchError, match=r"^router.py of .* does not hold 'api_router'"):
        peers.replace(file, "api_router", "router")
    peers.replace(file, "None", "1")
    assert file.read_text() == "router = 1\n"


def test_the_table_is_written_for_programs_and_for_people(tmp_path: Path) -> None:
    rows = [Row("full", "0.9", 0.8, "of bare", ok=False, counts={"shares": [0.7, 0.9]})]
    page = report.write("bench", rows, folder=tmp_path / "new")
    assert "| full | 0.9 | 0.8 of bare | 0.7 to 0.9 | no |" in page.read_text()
    assert json.loads((tmp_path / "new/bench.json").read_text())[0]["ok"] is False


def test_what_is_kept_goes_into_the_readme_and_replaces_what_was_there(tmp_path: Path) -> None:
    results, readme = tmp_path / "results.json", tmp_path / "README.md"
    shown = (report.Shown("all", but=("condition: ",)), report.Shown("more", first=("condition",)))
    tables = (f"{each.begin}old\n{report.END}\nafter {each.table}\n" for each in shown)
    readme.write_text("before\n" + "".join(tables))
    for measured in (1.0, 2.0):
        rows = [Row(name, "", measured, "", ok=None) for name in ("x", "condition: y")]
        report.keep(rows, results=results, pages={readme: shown})
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter more\n")
    first, _, second = text.partition("after all\n")
    assert "| x |  | 2.0 |  |  |" in first
    assert "condition" not in first
    assert "| condition: y |  | 2.0 |  |  |" in second
    assert "1.0" not in text
    assert "old" not in text


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_was_measured(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert all(each.begin in text for each in report.PAGES[page])
    assert text == report.with_tables(text, report.kept(), report.PAGES[page])


def test_a_server_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = Variant("nothing", ("false",), Path())
    with pytest.raises(BenchError, match=r"^nothing does not answer: false$"), running(variant):
        pass


HTTPS = """
import http.server, os, ssl, sys
address = "127.0.0.1", int(os.environ["PORT"])
server = http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler)
given = os.environ["GUNICORN_CMD_ARGS"].split()
options = dict(each.removeprefix("--").split("=") for each in given)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(**options)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def test_a_server_with_a_certificate_is_asked_over_tls(tmp_path: Path) -> None:
    plain = Variant("tls", (sys.executable, "-c", HTTPS), tmp_path)
    with running(conditions.over_tls(plain, tmp_path)) as found:
        assert answers(found.port, seconds=5, tls=True)
        assert not answers(found.port, seconds=5)
        assert found.memory_mib() > 1


def test_a_case_asks_for_its_routes_evenly_and_brings_its_body() -> None:
    streams = conditions.BODIES.streams(80, 1, 2)
    assert [(each.rate, each.body_bytes) for each in streams] == [(80, 2**16)]
    mix = overload.CASES[4].streams(80, 1, 2)
    assert [(each.rate, each.begin, each.end, each.body_bytes) for each in mix] == [
        (20, 1, 2, 0)
    ] * len(mix)


def test_a_missing_generator_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="wrk is missing"):
        load.measure(server("bare"), "/", seconds=1)
