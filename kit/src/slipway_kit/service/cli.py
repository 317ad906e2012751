"""The command line of a service, `python -m app`."""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import uvicorn
from gunicorn.app.wsgiapp import WSGIApplication

from slipway_kit.capacity.sums import report
from slipway_kit.config.cgroup import read_limits
from slipway_kit.db import migrations
from slipway_kit.db.migrations import MigrationError
from slipway_kit.errors import SettingsError
from slipway_kit.logs import setup as logs
from slipway_kit.server.start_checks import require_free, require_one_version
from slipway_kit.service.about import About
from slipway_kit.service.settings import ServiceSettings

# The application factory, as an import string.
APP = "app.main:create_app"
# Not in an image.
_TOOLS = "slipway_kit.dev"
_DIRECTIONS = ("upgrade", "downgrade", "current")


def main(settings: type[ServiceSettings], about: About, arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m app")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the service under gunicorn")
    serve.add_argument(
        "--reload", action="store_true", help="one worker that reloads when a file changes"
    )
    migrate = commands.add_parser("migrate", help="upgrade or downgrade the database schema")
    migrate.add_argument("direction", nargs="?", default="upgrade", choices=_DIRECTIONS)
    migrate.add_argument("revision", nargs="?", help="default: head")
    capacity = commands.add_parser(
        "capacity", help="print whether the settings fit each other and the container"
    )
    capacity.add_argument(
        "--from-values", metavar="FILE", help="chart values, one JSON object a line; - reads stdin"
    )
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser("settings", help="print every environment variable with its default")
    options = parser.parse_args(arguments)
    service = _Service(settings, about)
    run: dict[str, Callable[[argparse.Namespace], int]] = {
        "serve": service.serve,
        "migrate": service.migrate,
        "capacity": service.capacity,
        "openapi": service.openapi,
        "settings": service.settings_table,
    }
    try:
        require_one_version()
        return run[options.command](options)
    except (SettingsError, MigrationError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2


@dataclass(frozen=True)
class _Service:
    """The commands; each returns an exit status."""

    settings: type[ServiceSettings]
    about: About

    def serve(self, options: argparse.Namespace) -> int:
        return self._serve_reloading() if options.reload else self._serve_gunicorn()

    def _serve_gunicorn(self) -> int:
        sys.argv = ["gunicorn", "--config", str(self.about.ROOT / "gunicorn.conf.py")]
        WSGIApplication("%(prog)s", prog="gunicorn").run()
        return 0

    def _serve_reloading(self) -> int:
        server = self.settings.load().server
        require_free(server.host, server.port, setting="PORT")
        if server.metrics_port:
            require_free(server.host, server.metrics_port, setting="METRICS_PORT")
        uvicorn.run(
            APP,
            factory=True,
            reload=True,
            reload_dirs=[str(self.about.ROOT / "app")],
            host=server.host,
            port=server.port,
            root_path=server.root_path,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        return 0

    def migrate(self, options: argparse.Namespace) -> int:
        settings, folder = self.settings.load(), self.about.ROOT / "migrations"
        logs.configure(level=settings.server.log_level, json=settings.server.logs_json)
        if options.direction == "current":
            print(migrations.current(settings.database) or "empty")
        elif options.direction == "downgrade":
            if not options.revision:
                raise SettingsError(
                    "name the revision to downgrade to: python -m app migrate downgrade REVISION."
                )
            migrations.downgrade(settings.database, folder, options.revision)
        else:
            migrations.upgrade(settings.database, folder, options.revision or "head")
        return 0

    def capacity(self, options: argparse.Namespace) -> int:
        if options.from_values is None:
            print(report(self.settings.load().release(read_limits())))
            return 0
        values: Callable[[str], int] = _tool("chart_values").judge
        return values(options.from_values)

    def openapi(self, _: argparse.Namespace) -> int:
        module, _colon, name = APP.partition(":")
        # Log lines must not go into the document.
        with redirect_stdout(sys.stderr):
            app = getattr(import_module(module), name)()
        print(json.dumps(app.openapi(), indent=2, ensure_ascii=False))
        return 0

    def settings_table(self, _: argparse.Namespace) -> int:
        show: Callable[[type[ServiceSettings]], int] = _tool("settings_table").show
        return show(self.settings)


def _tool(name: str) -> ModuleType:
    """Return a module of `slipway_kit.dev`; raise `SettingsError` in an image, which has none."""
    try:
        return import_module(f"{_TOOLS}.{name}")
    except ModuleNotFoundError as missing:
        if missing.name != _TOOLS:
            raise
        raise SettingsError(
            "run this in the source tree of the service: the image has no development tools."
        ) from None
