"""`python -m app serve --reload`: one uvicorn process that starts again when a file changes."""

import uvicorn

from slipway_kit.config.server import ServerSettings
from slipway_kit.server.start_checks import require_free
from slipway_kit.service.features import About


def serve(app: str, about: About, server: ServerSettings) -> int:
    """Serve the application factory `app`, an import string."""
    require_free(server.host, server.port, setting="PORT")
    if server.metrics_port:
        require_free(server.host, server.metrics_port, setting="METRICS_PORT")
    uvicorn.run(
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
    return 0
