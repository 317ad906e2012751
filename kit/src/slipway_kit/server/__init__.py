"""gunicorn with uvicorn workers: master, worker, protocol, acceptor, recycling, watchdog."""
