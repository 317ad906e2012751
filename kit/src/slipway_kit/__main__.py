"""`python -m slipway_kit`: verify the library's files, or write its dist-info for scanners."""

import argparse
import sys
from pathlib import Path

# No other import: a partly copied folder must still be able to report it.
from slipway_kit.verify import problems


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m slipway_kit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="name every file that was edited, added or is missing")
    dist_info = commands.add_parser("dist-info", help="write its dist-info, as an installer would")
    dist_info.add_argument("folder", type=Path, help="folder to write to, such as site-packages")
    options = parser.parse_args(arguments)
    return _verify() if options.command == "verify" else _dist_info(options.folder)


def _verify() -> int:
    if found := problems():
        print("\n".join(f"error: {problem}" for problem in found), file=sys.stderr)  # noqa: T201 (for people)
        return 1
    from slipway_kit import __version__  # noqa: PLC0415 (it may be what is missing)

    print(f"slipway-kit {__version__} is unedited")  # noqa: T201 (for people)
    return 0


def _dist_info(folder: Path) -> int:
    from slipway_kit.distribution import write_dist_info  # noqa: PLC0415 (it may be missing)

    write_dist_info(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
