"""`python -m app serve --reload`: one uvicorn process that starts again when a file changes."""

import socket
import sys
import traceback

import structlog
import uvicorn
from uvicorn.supervisors import ChangeReload

from slipway_kit.config.group import read
from slipway_kit.config.server import ServerSettings
from slipway_kit.server.start_checks import require_free
from slipway_kit.service.features import About
from slipway_kit.tracing.provider import log_notes

log = structlog.get_logger()


class _Server(uvicorn.Server):
    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; of an error in the service's code show the frames in that code."""
        try:
            super().run(sockets)
        except Exception as error:
            folders = [str(folder) for folder in self.config.reload_dirs]
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if frame.filename.startswith(tuple(folders))]
            if not own and not isinstance(error, SyntaxError):
                raise
            shown = [*traceback.format_list(own), *traceback.format_exception_only(error)]
            sys.exit(f"{''.join(shown)}The service starts again when a file changes.")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where the pages are, as gunicorn's workers do."""
        await super().startup(sockets)
        if self.started:
            settings = read(ServerSettings)
            log.info("service ready", **({} if settings.logs_json else settings.pages))


def serve(app: str, about: About, server: ServerSettings) -> int:
    """Serve the application factory `app`, an import string."""
    # The process that serves inherits what this one has put right.
    log_notes()
    require_free(server.host, server.port, setting="PORT")
    if server.metrics_port:
        require_free(server.host, server.metrics_port, setting="METRICS_PORT")
    config = uvicorn.Config(
        app,
        factory=True,
        reload=True,
        reload_dirs=[str(about.ROOT / "app")],
        host=server.host,
        port=server.port,
        root_path=server.root_path,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    ChangeReload(config, target=_Server(config).run, sockets=[config.bind_socket()]).run()
    return 0
