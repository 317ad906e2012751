"""Every mutation of a chart's templates, and a choice of them that leaves out no template."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import UnionType
from typing import Any

import yaml

from tools.chart_rules import RULES
from tools.chart_source import Mutation, Source


def mutations(chart: Path) -> Iterator[Mutation]:
    """Yield every mutation of every template, in the order of files and rules."""
    siblings = neighbours(yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8")))
    folder = chart / "templates"
    texts = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    templates = includable("".join(texts.values()))
    for file, text in texts.items():
        source = Source(text, siblings, templates)
        seen = set[str]()
        for rule in RULES:
            for change in rule(source):
                mutation = Mutation(file, rule.__name__.replace("_", " "), text, *change)
                if mutation.mutated not in seen | {text}:
                    seen.add(mutation.mutated)
                    yield mutation


def neighbours(values: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Return the next value of the same type for each path, and for each last name in a path."""
    found: dict[str, str] = {}
    for kind in (bool, int | float, str, list, dict):
        names = [name for name, value in values.items() if _is(value, kind)]
        for name, other in zip(names, names[1:] + names[:1], strict=True):
            if name != other:
                found[f"{path}.{name}".lstrip(".")] = other
    for name, value in values.items():
        if isinstance(value, dict):
            found |= neighbours(value, f"{path}.{name}".lstrip("."))
    if not path:
        found = {whole.rpartition(".")[2]: other for whole, other in found.items()} | found
    return found


def _is(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def includable(text: str) -> dict[str, str]:
    """Return for each template the next one that takes the same argument."""
    kinds: dict[str, list[str]] = {}
    for name in re.findall(r'define "([^"]*)"', text):
        used = re.search(rf'include "{re.escape(name)}" (\(list[^)]*\)|\S+)', text)
        argument = used[1].count(" ") if used and used[1].startswith("(") else "."
        kinds.setdefault(str(argument), []).append(name)
    return {
        name: other
        for names in kinds.values()
        for name, other in zip(names, names[1:] + names[:1], strict=True)
        if name != other
    }


def chosen(every: Sequence[Mutation], each: int) -> list[Mutation]:
    """Choose so many of each file, always the same ones, its rules in turn."""
    files: dict[str, dict[str, list[Mutation]]] = {}
    for mutation in every:
        files.setdefault(mutation.file, {}).setdefault(mutation.rule, []).append(mutation)
    found = []
    for file, rules in files.items():
        for rule, mutations_of_rule in rules.items():
            random.Random(f"{file} {rule}").shuffle(mutations_of_rule)  # noqa: S311 (no secret)
        turns = (mutation for turn in zip_longest(*rules.values()) for mutation in turn if mutation)
        found += [mutation for mutation, _ in zip(turns, range(each), strict=False)]
    return found
