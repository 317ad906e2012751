"""The process model. It has no effects of its own: gunicorn runs it again at each SIGHUP."""

from app.about import SLUG
from app.settings import Settings
from slipway_kit.service.process_model import ProcessModel

_model = ProcessModel.load(Settings, slug=SLUG)

wsgi_app = "app.main:create_app()"
proc_name = SLUG
bind = _model.bind
workers = _model.workers
worker_class = _model.worker_class
worker_tmp_dir = _model.worker_tmp_dir
timeout = _model.timeout
graceful_timeout = _model.graceful_timeout
keepalive = _model.keepalive
forwarded_allow_ips = _model.forwarded_allow_ips
control_socket_disable = True
logger_class = _model.logger_class

on_starting = _model.hooks.on_starting
when_ready = _model.hooks.when_ready
pre_fork = _model.hooks.pre_fork
post_fork = _model.hooks.post_fork
child_exit = _model.hooks.child_exit
on_exit = _model.hooks.on_exit
