import pytest
from pydantic import ValidationError

from slipway_kit.config.cgroup import CgroupLimits
from slipway_kit.config.server import MIB, ServerSettings
from slipway_kit.errors import SettingsError


@pytest.mark.parametrize(
    ("limits", "workers"),
    [
        (CgroupLimits(), 1),
        (CgroupLimits(cpus=0.5), 1),
        (CgroupLimits(cpus=1.5), 2),
        (CgroupLimits(cpus=4), 4),
        (CgroupLimits(cpus=4, memory_bytes=300 * MIB), 2),
        (CgroupLimits(cpus=4, memory_bytes=50 * MIB), 1),
        (CgroupLimits(memory_bytes=4096 * MIB), 1),
    ],
)
def test_workers_follow_quota_and_memory_and_never_the_cores_of_the_host(
    limits: CgroupLimits, workers: int
) -> None:
    assert ServerSettings(worker_memory_mib=128).workers(limits) == workers


def test_each_worker_needs_room_for_its_processes_too() -> None:
    limits = CgroupLimits(cpus=4, memory_bytes=300 * MIB)
    assert ServerSettings(worker_memory_mib=128).workers(limits, children_mib=48) == 1


def test_a_number_of_workers_that_is_set_is_taken() -> None:
    assert ServerSettings(web_concurrency=3).workers(CgroupLimits(cpus=1)) == 3


@pytest.mark.parametrize(
    ("host", "bind"), [("127.0.0.1", "127.0.0.1:8000"), ("::", "[::]:8000"), ("::1", "[::1]:8000")]
)
def test_an_ipv6_address_is_bound_in_brackets(host: str, bind: str) -> None:
    assert ServerSettings(host=host).bind(8000) == bind


def test_production_hides_the_docs_and_logs_json_unless_told_otherwise() -> None:
    production = ServerSettings(app_env="production")
    assert (production.serves_docs, production.logs_json) == (False, True)
    development = ServerSettings(app_env="development")
    assert (development.serves_docs, development.logs_json) == (True, False)
    told = ServerSettings(app_env="production", docs_enabled=True, log_format="console")
    assert (told.serves_docs, told.logs_json) == (True, False)


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example,")
    assert ServerSettings().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    "origin",
    ["*", "http://localhost:3000", "https://[::1]:8443", "https://a.example:80", "http://a.b:8080"],
)
def test_an_origin_as_browsers_send_it_is_taken(origin: str) -> None:
    assert ServerSettings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("https://a.example/", "https://a.example/shop", "https://A.example", "null"),
        *("https://*.example", "https://a.example:443", "http://a.example:80"),
        *("https://me@a.example", "https://b\u00fccher.example"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin as browsers send it"):
        ServerSettings(cors_origins=(origin,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cors_origins": ("a.example",)},
        {"forwarded_allow_ips": "10.0.0.0/8, proxy"},
        {"root_path": "shop"},
        {"root_path": "/shop/"},
        {"port": 0},
        {"shutdown_seconds": 1},
        {"threadpool_tokens": 0},
        {"max_body_bytes": 0},
        {"app_env": "staging"},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings.model_validate(wrong)


def test_recycling_the_only_worker_needs_consent() -> None:
    with pytest.raises(SettingsError, match="MAX_REQUESTS_ALLOW_STALL"):
        ServerSettings(max_requests=10).check_recycling(1)
    ServerSettings(max_requests=10).check_recycling(2)
    ServerSettings(max_requests=10, max_requests_allow_stall=True).check_recycling(1)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, {"docs": "http://127.0.0.1:8000/docs", "metrics": "http://127.0.0.1:9000/metrics"}),
        ({"host": "*", "metrics_port": 0}, {"docs": "http://127.0.0.1:8000/docs"}),
        ({"host": "::1", "metrics_port": 0}, {"docs": "http://[::1]:8000/docs"}),
        ({"docs_enabled": False, "metrics_port": 0}, {"service": "http://127.0.0.1:8000/"}),
    ],
)
def test_the_pages_of_a_developer_are_those_that_are_served(
    given: dict[str, object], shown: dict[str, str]
) -> None:
    assert ServerSettings.model_validate(given).pages == shown
