"""`python -m slipway_kit verify` names every file that was edited, added or is missing."""

import sys
from importlib import import_module


def main(arguments: list[str]) -> int | str:
    """Return the exit status, or the sentence that ends the program."""
    if arguments != ["verify"]:
        return "usage: python -m slipway_kit verify"
    try:
        verify = import_module("slipway_kit.dev.verify")
    except ModuleNotFoundError:
        return "error: slipway_kit/dev/ is missing: copy the whole folder; an image leaves it out."
    status: int = verify.main()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
