"""Ask a page without pause, each time on a new connection, and print once a second what came of it.

Runs in a pod. There are no retries: an answer other than 200, a reset, a refusal and a timeout
each count as failed, and the first of them are shown.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 10.0
SHOWN = 5


def ask(host: str, path: str) -> None:
    """Ask once, and raise when the answer is not 200."""
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            message = f"{answer.status} {body[:200]!r}"
            raise ConnectionError(message)
    finally:
        connection.close()


def main(url: str) -> None:
    """Ask until somebody ends the process."""
    parts = urlsplit(url)
    asked = failed = 0
    slowest = 0.0
    first: list[str] = []
    told = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            ask(parts.netloc, parts.path)
        except (OSError, http.client.HTTPException) as error:
            failed += 1
            if len(first) < SHOWN:
                first.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
        asked += 1
        slowest = max(slowest, time.monotonic() - began)
        if time.monotonic() - told > 1:
            told = time.monotonic()
            counts = {"asked": asked, "failed": failed, "slowest_ms": round(slowest * 1000)}
            sys.stdout.write(f"{json.dumps(counts | {'failures': first})}\n")
            sys.stdout.flush()
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
