"""The command line of a service, `python -m app`."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pkgutil import resolve_name

from slipway_kit.capacity.sums import report
from slipway_kit.config.cgroup import read_limits
from slipway_kit.db import migrations
from slipway_kit.db.migrations import MigrationError
from slipway_kit.errors import SettingsError, error_lines
from slipway_kit.logs import setup as logs
from slipway_kit.server.start_checks import require_one_version
from slipway_kit.service.features import About
from slipway_kit.service.settings import ServiceSettings

# The application factory, as an import string.
APP = "app.main:create_app"
# gunicorn reads WEB_CONCURRENCY while it is imported: only after the settings are checked.
_GUNICORN = "gunicorn.app.wsgiapp:WSGIApplication"
# Not in an image.
_TOOLS = "slipway_kit.dev"


def main(settings: type[ServiceSettings], about: About, arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        require_one_version()
        status: int = options.run(options, settings, about)
    except (SettingsError, MigrationError) as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app")
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("serve", help="run the service under gunicorn")
    serve.set_defaults(run=_serve)
    serve.add_argument(
        "--reload", action="store_true", help="one worker that reloads when a file changes"
    )
    migrate = commands.add_parser("migrate", help="upgrade or downgrade the database schema")
    migrate.set_defaults(run=_migrate)
    directions = ["upgrade", "downgrade", "current"]
    migrate.add_argument("direction", nargs="?", default="upgrade", choices=directions)
    migrate.add_argument("revision", nargs="?", help="default: head")
    capacity = commands.add_parser(
        "capacity", help="print whether the settings fit each other and the container"
    )
    capacity.set_defaults(run=_capacity)
    capacity.add_argument(
        "--from-values", metavar="FILE", help="chart values, one JSON object a line; - reads stdin"
    )
    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(run=_openapi)
    table = commands.add_parser(
        "settings", help="print every environment variable with its default"
    )
    table.set_defaults(run=_settings)
    return parser


def _serve(options: argparse.Namespace, settings: type[ServiceSettings], about: About) -> int:
    server = settings.load().server
    if server.web_concurrency is None:
        # To gunicorn and uvicorn an empty one is a wrong number.
        os.environ.pop("WEB_CONCURRENCY", None)
    if options.reload:
        return _tool("reload:serve")(APP, about, server)
    sys.argv = ["gunicorn", "--config", str(about.ROOT / "gunicorn.conf.py")]
    resolve_name(_GUNICORN)("%(prog)s", prog="gunicorn").run()
    return 0


def _migrate(options: argparse.Namespace, kind: type[ServiceSettings], about: About) -> int:
    settings, folder = kind.load(), about.ROOT / "migrations"
    logs.LogSetup(level=settings.server.log_level, json=settings.server.logs_json).apply()
    if options.direction == "current":
        print(migrations.current(settings.database) or "empty")
    elif options.direction == "upgrade":
        migrations.upgrade(settings.database, folder, options.revision or "head")
    elif options.revision:
        migrations.downgrade(settings.database, folder, options.revision)
    else:
        raise SettingsError(
            "name the revision to downgrade to: python -m app migrate downgrade REVISION."
        )
    return 0


def _capacity(options: argparse.Namespace, settings: type[ServiceSettings], _: About) -> int:
    if options.from_values is None:
        print(report(settings.load().release(read_limits())))
        return 0
    return _tool("chart_values:judge")(options.from_values)


def _openapi(*_: object) -> int:
    # Log lines must not go into the document.
    with redirect_stdout(sys.stderr):
        app = resolve_name(APP)()
    print(json.dumps(app.openapi(), indent=2, ensure_ascii=False))
    return 0


def _settings(_: argparse.Namespace, settings: type[ServiceSettings], __: About) -> int:
    return _tool("settings_table:show")(settings)


def _tool(name: str) -> Callable[..., int]:
    """Return a function of `slipway_kit.dev`; raise `SettingsError` in an image, which has none."""
    try:
        tool: Callable[..., int] = resolve_name(f"{_TOOLS}.{name}")
    except ModuleNotFoundError as missing:
        if missing.name != _TOOLS:
            raise
        raise SettingsError(
            "run this in the source tree of the service: the image has no development tools."
        ) from None
    return tool
