import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from slipway_kit.db.address import Address, AddressError, parse


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_scheme_that_operators_hand_out_names_the_same_database(scheme: str) -> None:
    assert parse(f"{scheme}://app:pw@db.example:6432/shop") == Address(
        host="db.example", port=6432, user="app", password="pw", name="shop"
    )


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://db/shop", Address(host="db", name="shop")),
        ("postgresql://app@db", Address(host="db", user="app")),
        ("postgresql://", Address()),
        ("postgresql:///shop", Address(name="shop")),
        (" postgresql://db/shop\n", Address(host="db", name="shop")),
        ("postgresql://[::1]:5433/shop", Address(host="::1", port=5433, name="shop")),
        ("postgresql://%2Fvar%2Frun/shop", Address(host="/var/run", name="shop")),
        (
            "postgresql://app@/shop?host=/var/run/postgresql&port=5433",
            Address(host="/var/run/postgresql", port=5433, user="app", name="shop"),
        ),
        (
            "postgresql://db/shop?application_name=till%201",
            Address(host="db", name="shop", application_name="till 1"),
        ),
        ("postgresql://db/shop?ssl=require", Address(host="db", name="shop", sslmode="require")),
        ("postgresql://db/shop?sslmode=", Address(host="db", name="shop")),
        (
            "postgresql://db/shop?channel_binding=require&connect_timeout=10",
            Address(host="db", name="shop"),
        ),
        (
            "postgresql://db/shop?target_session_attrs=read-write",
            Address(host="db", name="shop", target_session_attrs="read-write"),
        ),
        (
            "postgresql://db/shop?options=-c%20search_path%3Dapp,public%20--lock-timeout%3D5s",
            Address(
                host="db",
                name="shop",
                options={"search_path": "app,public", "lock_timeout": "5s"},
            ),
        ),
    ],
)
def test_each_part_of_a_url_has_its_place(url: str, address: Address) -> None:
    assert parse(url) == address


def _percent_encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


secrets = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(user=secrets, password=secrets)
def test_percent_encoding_carries_any_user_and_password(user: str, password: str) -> None:
    address = parse(f"postgresql://{_percent_encoded(user)}:{_percent_encoded(password)}@db/shop")
    assert (address.user, address.password) == (user, password)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://app:hunter2@db/shop",
        "postgresql://app:hunter2#@db/shop",
        "postgresql://app:hunter2/@db/shop",
        "postgresql://app:hunter2@@db/shop",
        "postgresql://app:hunter2@db:hunter2/shop",
        "postgresql://app:hunter2@db:99999/shop",
        "postgresql://app:hunter2@db/shop?port=hunter2",
        "postgresql://app:x@one:1,two:2/shop",
        "postgresql://app:x@[::1/shop",
        "postgresql://app?hunter2@db/shop",
        "postgresql://app:hunter2@db/shop?sslmode=hunter2",
        "postgresql://app:hunter2@db/shop?hunter2=1",
        "postgresql://app:hunter2@db/shop?options=hunter2",
        "postgresql://app:hunter2@db/shop?target_session_attrs=hunter2",
        "hunter2",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(AddressError) as refusal:
        parse(url)
    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with suppress(AddressError):
        assert isinstance(parse(f"postgresql://{text}"), Address)


def test_a_password_is_not_part_of_what_an_address_prints() -> None:
    assert "hunter2" not in repr(parse("postgresql://app:hunter2@db/shop"))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("sslmode=prefer&sslrootcert=ca.pem", "need sslmode=require or stricter"),
        ("sslmode=disable&sslcert=c.pem", "need sslmode=require or stricter"),
        ("sslmode=require&sslkey=k.pem", "sslkey needs sslcert"),
        ("sslmode=verify-full", "needs sslrootcert"),
        ("sslmode=verify-ca&sslrootcert=system", "verify-full"),
        ("sslmode=on", "none of disable, allow"),
        ("gssencmode=require", "none of application_name"),
    ],
)
def test_tls_parameters_that_contradict_each_other_are_refused(query: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse(f"postgresql://db/shop?{query}")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(
    ("mode", "with_root", "checked", "hostname"),
    [
        ("require", False, ssl.CERT_NONE, False),
        ("require", True, ssl.CERT_REQUIRED, False),
        ("verify-ca", True, ssl.CERT_REQUIRED, False),
        ("verify-full", True, ssl.CERT_REQUIRED, True),
    ],
)
def test_each_mode_checks_what_libpq_checks(
    mode: str,
    with_root: bool,
    checked: ssl.VerifyMode,
    hostname: bool,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    root = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(root)
    url = f"postgresql://db/shop?sslmode={mode}" + (f"&sslrootcert={root}" if with_root else "")
    context = parse(url).ssl_argument()
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (checked, hostname)


def test_the_system_store_and_a_client_certificate_are_loaded(
    authority: trustme.CA, tmp_path: Path
) -> None:
    certificate = tmp_path / "client.pem"
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(certificate)
    address = Address(sslmode="verify-full", sslrootcert="system", sslcert=str(certificate))
    assert isinstance(address.ssl_argument(), ssl.SSLContext)


@pytest.mark.parametrize(
    ("query", "argument"),
    [("sslmode=disable", "disable"), ("sslmode=allow", "allow"), ("", "prefer")],
)
def test_modes_that_may_go_without_tls_are_left_to_the_driver(query: str, argument: str) -> None:
    assert parse(f"postgresql://db/shop?{query}").ssl_argument() == argument


@pytest.mark.parametrize("parameter", ["sslrootcert", "sslcert"])
def test_a_file_that_is_missing_or_no_certificate_is_named(parameter: str, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for path in (nonsense, tmp_path / "missing.pem"):
        address = parse(f"postgresql://db/shop?sslmode=require&{parameter}={path}")
        with pytest.raises(AddressError, match=f"{path} cannot be used"):
            address.ssl_argument()
