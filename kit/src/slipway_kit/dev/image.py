"""Build the image with docker, podman or buildah, whichever works first, and say how large it is.

`make image` calls it. ENGINE=podman chooses one, IMAGE=shop:1 is the name instead of that of
app/about.py, and IMAGE_BUILD_ARGS are handed to the engine's build command as they are.
It needs nothing but Python: pipelines build images where nothing is installed.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping

from slipway_kit.dev import about

# A command of each engine that fails where it cannot build, as a docker client without engine.
ENGINES = {"docker": "version", "podman": "info", "buildah": "info"}
ANSWER_SECONDS = 30
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
NAME = re.compile(
    rf"(?:[a-z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?", re.ASCII
)


class ImageError(Exception):
    """No image could be built; the text says why."""


def answers(engine: str) -> bool:
    """Tell whether `engine` is installed and does its work."""
    if shutil.which(engine) is None:
        return False
    command = [engine, ENGINES[engine]]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def find_engine(wanted: str = "", *, answers: Callable[[str], bool] = answers) -> str:
    """Return the engine that is wanted, else the first that answers, or raise `ImageError`."""
    for engine in [wanted] if wanted else ENGINES:
        if engine in ENGINES and answers(engine):
            return engine
    if wanted:
        raise ImageError(f"{wanted} does not answer: use one of {', '.join(ENGINES)} that does.")
    raise ImageError(
        "an image needs docker, podman or buildah, and none of them answers here:"
        " install one, or start docker's engine."
    )


def default_name(image: str, version: str) -> str:
    """Return `image` with a tag made from `version`; tags know no plus sign."""
    return f"{image}:{version.replace('+', '-')}"


def source_url(remote: str) -> str:
    """Return the web address of a git remote, without the password that may stand in it."""
    remote = remote.removesuffix(".git")
    if found := re.fullmatch(r"(https?://)(?:[^@/]*@)?(.+)", remote):
        return found[1] + found[2]
    if found := re.fullmatch(r"(?:ssh://)?[^@/]+@([^:/]+)(?::\d+/|[:/])(.+)", remote):
        return f"https://{found[1]}/{found[2]}"
    return ""


def git(*arguments: str) -> str:
    """Return what git says of this folder, or nothing."""
    program = shutil.which("git")
    if program is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def labels(service: about.About) -> dict[str, str]:
    """Return the build arguments that the labels are made of."""
    return {
        "TITLE": service.name,
        "DESCRIPTION": service.description,
        "VERSION": service.version,
        "REVISION": git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"),
        "SOURCE": source_url(git("remote", "get-url", "origin")),
    }


def build_command(engine: str, name: str, values: Mapping[str, str], *, more: str) -> list[str]:
    """Return the command that builds the image; `more` is what the caller adds, as in a shell."""
    arguments = [part for each in values.items() for part in ("--build-arg", "=".join(each))]
    # Left to itself, buildah alone makes one layer of everything and repeats every step.
    layers = ["--layers"] if engine == "buildah" else []
    return [engine, "build", *layers, "--tag", name, *arguments, *shlex.split(more), "."]


def size(engine: str, name: str) -> str:
    """Return how large the unpacked image is, for people."""
    command = ["images", "--json", name] if engine == "buildah" else ["image", "inspect", name]
    done = subprocess.run([engine, *command], capture_output=True, check=True)
    (image, *_) = json.loads(done.stdout)
    return str(image["size"]) if engine == "buildah" else f"{image['Size'] / 1e6:.0f} MB"


def identity(engine: str, name: str) -> str:
    """Return 12 hexadecimal digits that are others for an image of other content."""
    command = [engine, "images", "--quiet", "--no-trunc", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()[0].removeprefix("sha256:")[:12]


def build(environment: Mapping[str, str]) -> None:
    """Build the image and print its name and size."""
    service = about.read()
    name = environment.get("IMAGE") or default_name(service.image, service.version)
    if not NAME.fullmatch(name):
        raise ImageError(f"{name!r} is no name of an image: `make image IMAGE=shop:1` gives one.")
    engine = find_engine(environment.get("ENGINE", ""))
    more = environment.get("IMAGE_BUILD_ARGS", "")
    command = build_command(engine, name, labels(service), more=more)
    if subprocess.run(command, check=False).returncode:
        raise ImageError(f"{engine} could not build {name}; its last lines say why.")
    print(f"Built {name} with {engine}: {size(engine, name)}")


if __name__ == "__main__":
    try:
        build(os.environ)
    except ImageError as problem:
        sys.exit(f"error: {problem}")
