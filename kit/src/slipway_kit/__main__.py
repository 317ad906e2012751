"""`python -m slipway_kit verify` names every file that was edited, added or is missing."""

import sys

USAGE = "usage: python -m slipway_kit verify"
NO_TOOLS = (
    "error: slipway_kit/dev/ is missing: run this in the source tree of a service,"
    " and copy the whole folder again if it is missing there too."
)


def main(arguments: list[str]) -> int | str:
    """Return the exit status, or the sentence that ends the program."""
    if arguments != ["verify"]:
        return USAGE
    try:
        from slipway_kit.dev import verify  # noqa: PLC0415 (an image has none)
    except ModuleNotFoundError:
        return NO_TOOLS
    return verify.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
