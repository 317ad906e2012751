"""Refuse answers that would make a broken project, in one sentence."""

import json
import re
import sys

ANSWERS = json.loads(r"""<< cookiecutter | jsonify >>""")
CHOICES = {"example": ["shop", "none"], "ci": ["github", "gitlab"]}
# They end a string in TOML, YAML or Python, or start something in the template's language.
DANGEROUS = [chr(34), chr(92), chr(96), "<" * 2, "<" + "%", "{" * 2]
LONGEST = 200
# What engines accept before the last slash of an image's name.
PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
REGISTRY = rf"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]+)?(?:/{PART})*"


def problems() -> list[str]:
    """Return what is wrong with the answers, one phrase each."""
    answers = {name: value for name, value in ANSWERS.items() if not name.startswith("_")}
    found = [phrase for name, value in answers.items() if (phrase := unfit(name, str(value)))]
    slug, registry = str(answers["project_slug"]), str(answers["registry"])
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", slug):
        found.append(
            f"project_slug is {slug!r}: use lower-case letters, digits and dashes,"
            " a letter first, at most 40"
        )
    if not re.fullmatch(REGISTRY, registry):
        found.append(f"registry is {registry!r}: use a lower-case address such as ghcr.io/example")
    for name, allowed in CHOICES.items():
        if answers[name] not in allowed:
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


if found := problems():
    sys.exit(f"error: {'; '.join(found)}")
