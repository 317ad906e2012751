"""PostgreSQL's prompt in the service's database; `make psql` runs it with DATABASE_URL set.

The system's psql comes first: the wheel's knows no TLS.
"""

import os
import re
import shutil
import sys

from slipway_kit.config.group import read
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.dev.postgres_server import PostgresError, own_programs
from slipway_kit.errors import SettingsError, error_lines


def variables(settings: DatabaseSettings) -> dict[str, str]:
    """Return what libpq reads from the environment; arguments would show the password."""
    address = settings.address
    # libpq splits them at spaces.
    escaped = {name: re.sub(r"([ \\])", r"\\\1", value) for name, value in address.options.items()}
    found = {
        "PGHOST": address.host,
        "PGPORT": str(address.port),
        "PGUSER": address.user,
        "PGPASSWORD": settings.connect_arguments["password"],
        "PGDATABASE": address.name,
        "PGAPPNAME": address.application_name,
        "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in escaped.items()),
        "PGSSLMODE": address.sslmode,
        "PGSSLROOTCERT": address.sslrootcert,
        "PGSSLCERT": address.sslcert,
        "PGSSLKEY": address.sslkey,
    }
    return {name: value for name, value in found.items() if value}


def main() -> None:
    """Become psql, with the arguments of this command."""
    try:
        own = variables(read(DatabaseSettings))
        program = shutil.which("psql") or str(own_programs() / "psql")
    except (PostgresError, SettingsError) as error:
        sys.exit(error_lines(error))
    os.execve(program, ["psql", *sys.argv[1:]], os.environ | own)


if __name__ == "__main__":
    main()
