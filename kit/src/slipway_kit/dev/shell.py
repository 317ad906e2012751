"""A Python prompt in which `await` works; `make shell` runs it with DATABASE_URL set.

It knows `settings`, the open `database`, SQLAlchemy's `select` and `text`, and every model.
"""

import ast
import asyncio
import inspect
import sys
from code import InteractiveConsole
from collections.abc import Callable
from contextlib import suppress
from pkgutil import resolve_name
from types import CodeType, FunctionType
from typing import Any

from sqlalchemy import select, text

from slipway_kit.db.engine import open_database
from slipway_kit.db.model import Model
from slipway_kit.errors import SettingsError, error_lines
from slipway_kit.logs.setup import LogSetup
from slipway_kit.service.features import import_models
from slipway_kit.service.settings import ServiceSettings


class _Console(InteractiveConsole):
    """Runs what awaits on the event loop of `runner`."""

    def __init__(self, names: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._names, self._runner = names, runner

    def runcode(self, code: CodeType) -> None:
        """Run one statement; show its error."""
        run: Callable[[], object] = FunctionType(code, self._names)
        try:
            found = run()
            if inspect.iscoroutine(found):
                self._runner.run(found)
        except SystemExit:
            raise
        except BaseException:  # noqa: BLE001 (Ctrl-C ends the statement alone)
            self.showtraceback()


def main() -> None:
    """Show the prompt until Ctrl-D."""
    kind: type[ServiceSettings] = resolve_name("app.settings:Settings")
    try:
        settings = kind.load()
    except SettingsError as error:
        sys.exit(error_lines(error))
    LogSetup(settings.server.log_level, json=False).apply()
    import_models(kind.enabled)
    models = {each.class_.__name__: each.class_ for each in Model.registry.mappers}
    with suppress(ImportError):
        # Arrow keys and a history.
        resolve_name("readline")
    with asyncio.Runner() as runner:
        opened = open_database(settings.database)
        database = runner.run(opened.__aenter__())
        names = {"settings": settings, "database": database, "select": select, "text": text}
        _Console(names | models, runner).interact(
            f"{', '.join([*names, *models])}: for example `await database.rows(select(...))`",
            exitmsg="",
        )
        runner.run(opened.__aexit__(None, None, None))


if __name__ == "__main__":
    main()
