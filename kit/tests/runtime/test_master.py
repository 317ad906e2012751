"""The master: what it checks before it serves, its exporter, its log, its metric files."""

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import (
    GUNICORN,
    SCENARIOS,
    SERVE,
    Service,
    ask,
    connected,
    port_is_free,
)
from kit.tests.support.paths import SERVICE
from kit.tests.support.ports import has_ipv6
from slipway_kit.testing.waiting import eventually

COUNTED = 'http_requests_total{handler="/scenarios/pid",method="GET",status="2xx"}'


def ask_often(service: Service, times: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: service.pid(), range(times)))


def counted(service: Service, times: int) -> bool:
    """Wait until so many requests are counted: a client has its answer a moment before."""
    eventually(lambda: service.scraped().get(COUNTED, 0) >= times, what=f"{times} counted")
    return service.metrics()[COUNTED] == times


HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


def test_requests_of_all_workers_are_counted_exactly_once(service: Service) -> None:
    ask_often(service, 200)
    assert counted(service, 200)


def test_metrics_are_served_on_their_own_port_alone(service: Service) -> None:
    assert service.get("/metrics")[0] == 404
    with connected(service.metrics_port) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().status == 404


def test_probes_are_not_counted(service: Service) -> None:
    for path in ("/livez", "/readyz", "/startupz", "/health"):
        service.get(path)
    assert not [name for name in service.metrics() if "livez" in name or "readyz" in name]


def test_sighup_keeps_the_counters_and_one_exporter(service: Service) -> None:
    ask_often(service, 50)
    assert counted(service, 50)
    before, exporters = set(service.workers()), service.exporters()
    service.send(signal.SIGHUP)
    eventually(lambda: len(service.events_so_far("service ready")) == 4, seconds=15)
    eventually(lambda: not before & set(service.workers()), seconds=15)
    ask_often(service, 50)
    assert counted(service, 100)
    assert service.exporters() == exporters
    assert len(service.workers()) == 2


def test_a_killed_exporter_is_replaced_and_the_counters_stay(service: Service) -> None:
    ask_often(service, 20)
    assert counted(service, 20)
    (exporter,) = service.exporters()
    service.kill(exporter)
    eventually(lambda: service.scraped().get(COUNTED) == 20, seconds=5)
    assert len(service.exporters()) == 1
    assert not service.lives(exporter)


def test_the_live_gauge_of_a_worker_that_left_is_gone(service: Service) -> None:
    assert service.metrics()["scenario_alive"] == 2
    service.send(signal.SIGTTOU)
    eventually(lambda: len(service.workers()) == 1)
    eventually(lambda: service.metrics()["scenario_alive"] == 1)


def test_a_busy_worker_delays_no_scrape(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1, WORKER_TIMEOUT_SECONDS=10)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(service.get, "/scenarios/block?seconds=2")
        time.sleep(0.3)
        assert service.metrics()
        assert not busy.done()


def test_killed_workers_leave_no_further_metric_files(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    service = start(PROMETHEUS_MULTIPROC_DIR=folder)
    ask_often(service, 20)
    assert counted(service, 20)
    files = {file.name for file in folder.glob("*.db")}
    for round_ in range(1, 4):
        for worker in service.workers():
            service.kill(worker)
        service.wait_ready(2 + 2 * round_)
        ask_often(service, 20)
        assert counted(service, 20 + 20 * round_)
    assert {file.name for file in folder.glob("*.db")} <= files | {
        f"{kind}_{slot}.db" for kind in ("counter", "histogram", "summary") for slot in (0, 1)
    }


@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_an_occupied_port_is_one_sentence(start: Start, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = start(ready=False, **{name: port})
        assert service.wait_end(seconds=15) == 1
    (line,) = service.text.splitlines()[-1:]
    assert line == (
        f"error: 127.0.0.1 port {port} is in use by another process:"
        f" set {name} to a free one or end that process."
    )
    assert "Traceback" not in service.text


def test_a_required_database_that_is_down_is_one_sentence_before_the_first_worker(
    start: Start, tmp_path: Path
) -> None:
    service = start(
        ready=False,
        DATABASE_REQUIRED="true",
        DATABASE_URL=f"postgresql://nobody:hidden@/none?host={tmp_path}",
    )
    assert service.wait_end(seconds=10) == 1
    assert "does not answer" in service.text.splitlines()[-1]
    assert "hidden" not in service.text
    assert "Traceback" not in service.text
    assert not service.workers()


def test_a_required_database_that_answers_lets_the_service_start(start: Start) -> None:
    assert start(DATABASE_REQUIRED="true").answers()


def test_settings_that_make_no_sense_are_one_sentence_each(start: Start) -> None:
    service = start(ready=False, SHUTDOWN_SECONDS="soon", PORT=70000, METRICS_PORT=9000)
    assert service.wait_end(seconds=10) == 1
    lines = service.text.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)


def test_every_line_of_master_and_workers_is_json(service: Service) -> None:
    service.pid()
    service.get("/nothing")
    service.send(signal.SIGTERM)
    service.wait_end(seconds=10)
    events = service.events()
    pids = {event["pid"] for event in events}
    assert len(pids) == 3
    assert all(event["time"] and event["level"] for event in events)
    assert not [event for event in events if "error" in event["event"].lower()]


@pytest.mark.parametrize("command", [SCENARIOS, [*SERVE, "--reload"]])
def test_a_request_is_one_line_in_every_way_of_starting(start: Start, command: list[str]) -> None:
    service = start(command, ready=False, LOG_FORMAT="json")
    eventually(service.answers, seconds=15)
    with connected(service.port) as connection:
        connection.request("GET", "/nothing-here", headers={"X-Request-ID": "only-once"})
        connection.getresponse().read()
    eventually(lambda: "only-once" in service.text)
    service.send(signal.SIGTERM)
    service.wait_end(seconds=10)
    assert len([line for line in service.text.splitlines() if "only-once" in line]) == 1
    assert "nothing-here" not in service.text, "the log has templates, not paths"


def test_a_metrics_folder_with_other_files_is_refused_and_left_alone(
    start: Start, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    service = start(ready=False, PROMETHEUS_MULTIPROC_DIR=precious)
    assert service.wait_end(seconds=10) == 1
    assert "holds other files: give it an empty folder." in service.text
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_two_masters_do_not_share_a_metrics_folder(start: Start, tmp_path: Path) -> None:
    first = start(PROMETHEUS_MULTIPROC_DIR=tmp_path / "metrics")
    ask_often(first, 5)
    second = start(ready=False, PROMETHEUS_MULTIPROC_DIR=tmp_path / "metrics")
    assert second.wait_end(seconds=10) == 1
    assert "is taken: give each service a folder of its own." in second.text
    assert counted(first, 5)


def test_a_metrics_folder_is_emptied_at_the_start_and_a_temporary_one_removed_at_the_end(
    start: Start, tmp_path: Path
) -> None:
    first = start(PROMETHEUS_MULTIPROC_DIR=tmp_path / "metrics")
    ask_often(first, 5)
    first.send(signal.SIGINT)
    first.wait_end(seconds=10)
    second = start(PROMETHEUS_MULTIPROC_DIR=tmp_path / "metrics")
    assert COUNTED not in second.metrics()
    third = start()
    folders = temporary_folders(third)
    assert len(folders) == 1
    third.send(signal.SIGINT)
    third.wait_end(seconds=10)
    assert not any(folder.exists() for folder in folders)


def temporary_folders(service: Service) -> list[Path]:
    """Find the folders that the workers have metric files of."""
    service.pid()
    files = [file for pid in service.workers() for file in psutil.Process(pid).memory_maps()]
    return list({Path(file.path).parent for file in files if file.path.endswith(".db")})


@pytest.mark.parametrize("command", [SERVE, [*SERVE, "--reload"]])
def test_in_development_the_start_is_one_line_with_the_pages(
    start: Start, command: list[str]
) -> None:
    service = start(command, ready=False, APP_ENV="development", WEB_CONCURRENCY=1)
    pages = (
        f"docs=http://127.0.0.1:{service.port}/docs"
        f" metrics=http://127.0.0.1:{service.metrics_port}/metrics"
    )
    eventually(lambda: pages in service.text, seconds=30)
    assert len(service.text.splitlines()) == 1, service.text
    if "--reload" in command:
        (SERVICE / "app/main.py").touch()
        eventually(lambda: service.text.count(pages) == 2, seconds=30)
        assert len(service.text.splitlines()) == 3, service.text
    service.send(signal.SIGINT)
    service.wait_end(seconds=10)
    assert len(service.text.splitlines()) <= 3, service.text


MEASURED = """
from prometheus_client import Gauge, Info
from app.main import create_app
Info("build", "of the image").info({"commit": "abc"})
Gauge("early", "set at import", multiprocess_mode="livesum").set(1)
"""


def test_metrics_that_several_processes_do_not_share_are_named_at_the_start(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "measured.py").write_text(MEASURED)
    service = start([*GUNICORN, "measured:create_app()"], PYTHONPATH=tmp_path)
    warned = [line for line in service.events() if line["level"] == "warning"]
    assert [line["names"] for line in warned] == [["build"], ["early"]]


def test_sigusr2_is_refused(service: Service) -> None:
    service.send(signal.SIGUSR2)
    eventually(lambda: "SIGUSR2 is refused" in service.text)
    assert len(service.exporters()) == 1
    assert service.answers()


def test_python_m_app_serve_runs_the_same(start: Start) -> None:
    service = start(SERVE)
    assert len(service.workers()) == 2
    assert len(service.exporters()) == 1
    assert service.get("/readyz")[0] == 200
    service.send(signal.SIGTERM)
    assert service.wait_end(seconds=10) == 0


@pytest.mark.parametrize("command", [SERVE, [*SERVE, "--reload"]])
@pytest.mark.parametrize(
    ("name", "value"), [("WEB_CONCURRENCY", "x"), ("FORWARDED_ALLOW_IPS", "proxy")]
)
def test_a_wrong_value_of_what_gunicorn_reads_too_is_one_sentence(
    start: Start, command: list[str], name: str, value: str
) -> None:
    service = start(command, ready=False, **{name: value})
    assert service.wait_end(seconds=15) == 2
    (line,) = service.text.splitlines()
    assert line.startswith(f"error: {name} is {value!r}: ")


@pytest.mark.parametrize("command", [SERVE, [*SERVE, "--reload"]])
def test_an_empty_number_of_workers_is_none(start: Start, command: list[str]) -> None:
    service = start(command, ready=False, WEB_CONCURRENCY="")
    service.wait_ready(1)
    assert service.get("/readyz")[0] == 200


def test_the_reloading_server_serves_metrics_too(start: Start) -> None:
    service = start(
        [*SERVE, "--reload"],
        ready=False,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_TRACES_SAMPLER="xray",
    )
    eventually(service.answers, seconds=15)
    service.get("/nothing")
    assert any("http_requests_total" in name for name in service.metrics())
    service.send(signal.SIGTERM)
    service.wait_end(seconds=10)
    eventually(lambda: port_is_free(service.port))
    assert service.text.count("OTEL_TRACES_SAMPLER") == 1


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_service_listens_on_ipv6(start: Start) -> None:
    service = start(HOST="::1")
    with socket.create_connection(("::1", service.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_service_listens_on_both_families_and_believes_a_proxy_of_either(start: Start) -> None:
    service = start(HOST="*", FORWARDED_ALLOW_IPS="127.0.0.1,::1")
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, service.port)) as connection:
            connection.sendall(
                b"GET /scenarios/scheme HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n"
                b"X-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n"
            )
            with connection.makefile("rb") as answer:
                assert b'"scheme":"https"' in answer.read().replace(b" ", b""), address
        with socket.create_connection((address, service.metrics_port)):
            pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("way", ["protocol", "middleware"])
def test_an_ipv4_client_has_its_own_address_on_a_socket_for_both_families(
    start: Start, way: str
) -> None:
    service = start(HOST="*", FORWARDED_ALLOW_IPS="127.0.0.1", ADMISSION=way, WEB_CONCURRENCY=1)
    for proxied, client in ((b"", "127.0.0.1"), (b"X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7")):
        for upgrade in (b"", HANDSHAKE):
            with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
                connection.sendall(
                    b"GET /scenarios/ends HTTP/1.1\r\nHost: x\r\n" + proxied + upgrade + b"\r\n"
                )
                said = b""
                while not said.endswith(b"]"):
                    said += connection.recv(1000)
            assert said.endswith(f'["{client}","127.0.0.1"]'.encode())


def test_behind_a_prefix_the_document_names_it_and_routes_answer(start: Start) -> None:
    service = start(ROOT_PATH="/shop", DOCS_ENABLED="true")
    for stripped in ("/health", "/livez", "/health?a=1"):
        for kept in (stripped, f"/shop{stripped}"):
            assert service.get(kept)[0] == 200, kept
    for at_start in ("/", "/shop", "/shop/", "/shop?a=1"):
        status, headers, _ = service.get(at_start)
        assert (status, headers["location"]) == (307, "/shop/docs"), at_start
    for missing in ("/shopping/health", "/shop/shop/health"):
        assert service.get(missing)[0] == 404, missing
    document = json.loads(service.get("/shop/openapi.json")[2])
    assert document["servers"] == [{"url": "/shop"}]


@pytest.mark.parametrize(("trusted", "seen"), [("127.0.0.1", "https"), ("10.0.0.1", "http")])
def test_only_a_trusted_proxy_is_believed(start: Start, trusted: str, seen: str) -> None:
    service = start(FORWARDED_ALLOW_IPS=trusted)
    with connected(service.port) as connection:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        connection.request("GET", "/scenarios/scheme", headers=headers)
        assert json.loads(connection.getresponse().read())["scheme"] == seen


def test_an_idle_connection_is_kept_as_long_as_set(start: Start) -> None:
    service = start(KEEP_ALIVE_SECONDS=2)
    with connected(service.port) as connection:
        ask(connection, "/health")
        idle = connection.sock
        idle.settimeout(8)
        began = time.monotonic()
        assert idle.recv(1) == b""
        assert time.monotonic() - began > 1.5
