"""Refuse answers that would make a broken project, and a bake that would lose an owner's files."""

import json
import re
import sys
from pathlib import Path

ANSWERS = json.loads(r"""<< cookiecutter | jsonify >>""")
CHOICES = {"example": ["shop", "none"], "ci": ["github", "gitlab"]}
# They end a string in TOML, YAML or Python, or start something in the template's language.
DANGEROUS = [chr(34), chr(92), chr(96), "<" * 2, "<" + "%", "{" * 2]
LONGEST = 200
# What engines accept before the last slash of an image's name.
PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
REGISTRY = rf"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]+)?(?:/{PART})*"


def problems() -> list[str]:
    """Return what is wrong with the answers given so far, one phrase each."""
    answers = {name: value for name, value in ANSWERS.items() if not name.startswith("_")}
    found = [phrase for name, value in answers.items() if (phrase := unfit(name, str(value)))]
    slug, registry = (str(answers.get(name, "x")) for name in ("project_slug", "registry"))
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", slug):
        found.append(
            f"project_slug is {slug!r}: use lower-case letters, digits and dashes,"
            " a letter first, at most 40"
        )
    if not re.fullmatch(REGISTRY, registry):
        found.append(f"registry is {registry!r}: use a lower-case address such as ghcr.io/example")
    for name, allowed in CHOICES.items():
        if name in answers and answers[name] not in allowed:
            found.append(f"{name} is {answers[name]!r}: use one of {', '.join(allowed)}")
    return found


def unfit(name: str, value: str) -> str:
    """Return what makes `value` unfit for any file, or nothing."""
    if "cookiecutter." in value:
        return f"{name} is {value!r}: it was never filled in, answer it anew"
    if not value.strip() or len(value) > LONGEST:
        return f"{name} has {len(value)} characters: write 1 to {LONGEST}, not only spaces"
    if not value.isprintable():
        return f"{name} is {value!r}: it holds a control character"
    for dangerous in DANGEROUS:
        if dangerous in value:
            return f"{name} is {value!r}: it must not hold {dangerous}"
    return ""


def losses() -> list[str]:
    """Return what of an owner's folder this bake would replace or remove, one phrase each."""
    template = json.loads(r"""<< template_files() | jsonify >>""")
    ignored, files = template["ignored"], set(template["files"])
    found = [
        f"{path} is there, and the template's own would replace it:"
        " remove one of the two, or bake from a clone of the template"
        for path in ignored
        if Path(path).exists()
    ]
    own = [
        path
        for folder in template["linked"]
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and path.as_posix() not in files
    ]
    return found + [f"{path} would be lost with its folder: move it first" for path in own]


found = problems()
if __name__ == "__main__":
    found = found or losses()
if found:
    sys.exit(f"error: {'; '.join(found)}")
