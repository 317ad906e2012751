"""A worker that takes its time until it listens to signals; gunicorn runs it in one test."""

import time

from slipway_kit.server.worker import DrainingWorker

SECONDS = 1.0


class LateWorker(DrainingWorker):
    def init_signals(self) -> None:
        time.sleep(SECONDS)
        super().init_signals()
