import socket

import pytest

from kit.tests.support.ports import has_ipv6
from slipway_kit.errors import SettingsError
from slipway_kit.server.start_checks import listen


def test_a_taken_port_is_retried_and_then_refused_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            listen("127.0.0.1", port, setting="PORT", retry_seconds=0.15)
    assert str(caught.value) == (
        f"127.0.0.1 port {port} is in use by another process:"
        " set PORT to a free one or end that process."
    )


def test_an_address_of_another_host_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1 port 9000 cannot be bound"):
        listen("192.0.2.1", 9000, setting="METRICS_PORT", retry_seconds=60)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
    ],
)
def test_a_free_port_is_bound(host: str) -> None:
    listener = listen(host, 0, setting="PORT")
    assert listener.getsockname()[0] == host
    listener.close()
