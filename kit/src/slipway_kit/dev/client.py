"""Ask a service for paths, one after another, each on a connection of its own, and count failures.

    python client.py URL PATH...

A line a second tells of all that was asked so far, as JSON. It needs the standard library alone:
`make e2e` runs its text in a pod.
"""

import json
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.client import HTTPException

CLIENTS = 4
PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 15


def ask(url: str, outcomes: "Counter[str]") -> None:
    """Ask for `url` for ever; an answer is `ok`, anything else is what went wrong."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                answer.read()
            outcomes["ok"] += 1
        except (OSError, HTTPException) as error:
            outcomes[f"{url}: {error!r}"] += 1
        time.sleep(PAUSE_SECONDS)


def main(base: str, paths: list[str]) -> None:
    """Ask until the process is ended."""
    outcomes: list[Counter[str]] = []
    for number in range(max(CLIENTS, len(paths))):
        outcomes.append(Counter())
        asked = (base + paths[number % len(paths)], outcomes[-1])
        threading.Thread(target=ask, args=asked, daemon=True).start()
    while True:
        time.sleep(1)
        print(json.dumps(sum((each.copy() for each in outcomes), Counter[str]())), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
