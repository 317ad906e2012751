"""The process model. It has no effects of its own: gunicorn runs it again at each SIGHUP."""

import sys

from app.about import SLUG
from app.settings import Settings
from slipway_kit.config.cgroup import read_limits
from slipway_kit.errors import SettingsError
from slipway_kit.metrics.folder import memory_folder
from slipway_kit.server import master

try:
    _settings = Settings.load()
    _server = _settings.server
    workers = _settings.workers(read_limits())
    _server.check_recycling(workers)
    # Heartbeat files belong in memory: a slow disk must not look like a worker that stands still.
    worker_tmp_dir = str(memory_folder())
except SettingsError as error:
    sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))

wsgi_app = "app.main:create_app()"
bind = [_server.bind(_server.port)]
worker_class = "slipway_kit.server.worker.DrainingWorker"
timeout = _server.worker_timeout_seconds
graceful_timeout = _server.shutdown.graceful_timeout
keepalive = _server.keep_alive_seconds
forwarded_allow_ips = _server.forwarded_allow_ips
control_socket_disable = True
proc_name = SLUG
logger_class = master.JsonLogger

_hooks = master.Hooks(SLUG, _server, _settings.database)
on_starting = _hooks.on_starting
when_ready = _hooks.when_ready
pre_fork = _hooks.pre_fork
post_fork = _hooks.post_fork
child_exit = _hooks.child_exit
on_exit = _hooks.on_exit
