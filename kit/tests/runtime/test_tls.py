"""Against Debian's PostgreSQL: the embedded one is built without TLS."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from kit.tests.support import ports, programs
from slipway_kit.db.connection import connect
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.dev.postgres import open_postgres

HBA = """
local all all trust
hostssl all certified all cert
host all all all trust
"""


@dataclass(frozen=True)
class TlsServer:
    port: int
    root: Path
    other_root: Path
    client: Path

    def connect(self, query: str, *, user: str = "postgres", host: str = "localhost") -> bool:
        """Connect and return whether TLS is in use."""
        where = query.format(root=self.root, other=self.other_root, client=self.client)
        return asyncio.run(uses_tls(f"postgresql://{user}@{host}:{self.port}/postgres?{where}"))


async def uses_tls(url: str) -> bool:
    connection = await connect(DatabaseSettings(url=SecretStr(url)))
    try:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(await connection.fetchval(query))
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server whose certificate names `localhost` alone."""
    program = programs.find("initdb", package="postgresql")
    authority, files = trustme.CA(), tmp_path_factory.mktemp("tls")
    server_certificate = authority.issue_cert("localhost")
    client = authority.issue_cert("client@example.org", common_name="certified")
    authority.cert_pem.write_to_path(files / "ca.pem")
    trustme.CA().cert_pem.write_to_path(files / "other.pem")
    client.private_key_and_cert_chain_pem.write_to_path(files / "client.pem")
    port = ports.free()
    conf = {"ssl": "on", "ssl_ca_file": "ca.crt", "listen_addresses": "localhost"}
    with open_postgres(
        programs=program.parent,
        conf={**conf, "port": str(port)},
        files={
            "server.key": server_certificate.private_key_pem.bytes().decode(),
            "server.crt": server_certificate.cert_chain_pems[0].bytes().decode(),
            "ca.crt": authority.cert_pem.bytes().decode(),
            "pg_hba.conf": HBA,
        },
    ):
        asyncio.run(create_role(port))
        yield TlsServer(port, files / "ca.pem", files / "other.pem", files / "client.pem")


async def create_role(port: int) -> None:
    connection = await connect(
        DatabaseSettings(url=SecretStr(f"postgresql://postgres@localhost:{port}"))
    )
    await connection.execute("CREATE ROLE certified LOGIN")
    await connection.close()


@pytest.mark.parametrize(
    ("query", "secured"),
    [
        ("sslmode=disable", False),
        ("sslmode=allow", False),
        ("sslmode=prefer", True),
        ("", True),
        ("sslmode=require", True),
        ("sslmode=require&sslrootcert={root}", True),
        ("sslmode=verify-ca&sslrootcert={root}", True),
        ("sslmode=verify-full&sslrootcert={root}", True),
    ],
)
def test_each_mode_connects_to_a_server_it_may_trust(
    query: str, secured: bool, server: TlsServer
) -> None:
    assert server.connect(query) == secured


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_of_another_authority_is_refused(mode: str, server: TlsServer) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        server.connect(f"sslmode={mode}&sslrootcert={{other}}")
    assert "CERTIFICATE_VERIFY_FAILED" in str(refusal.value.__cause__)


def test_the_systems_authorities_do_not_know_a_private_one(server: TlsServer) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        server.connect("sslmode=verify-full&sslrootcert=system")
    assert "CERTIFICATE_VERIFY_FAILED" in str(refusal.value.__cause__)


def test_another_host_name_is_refused_by_verify_full_alone(server: TlsServer) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        server.connect("sslmode=verify-full&sslrootcert={root}", host="127.0.0.1")
    assert "mismatch" in str(refusal.value.__cause__)
    assert server.connect("sslmode=verify-ca&sslrootcert={root}", host="127.0.0.1")


def test_a_client_certificate_lets_its_role_in(server: TlsServer) -> None:
    with pytest.raises(DatabaseUnavailable):
        server.connect("sslmode=require", user="certified")
    assert server.connect("sslmode=require&sslcert={client}", user="certified")
