"""Rules that break the templates of a chart, one place at a time.

A rule looks at the text of a template and yields every place where it applies, with what stands
there instead. None knows the chart: what a value may be mistaken for is read from values.yaml.
"""

import re
from collections.abc import Callable, Iterator

from tools.chart_source import ACTION, FILLER, KEYWORD, STRING, Change, Source


def always(source: Source) -> Iterator[Change]:
    """Yield each condition as one that always holds."""
    return ((start, end, "true") for start, end in _conditions(source))


def never(source: Source) -> Iterator[Change]:
    """Yield each condition as one that never holds."""
    return ((start, end, "false") for start, end in _conditions(source))


def _conditions(source: Source) -> Iterator[tuple[int, int]]:
    for found in re.finditer(r"\{\{-?\s*(?:else )?if\s+([^}]*?)\s*-?\}\}", source.code):
        yield found.span(1)


def body_dropped(source: Source) -> Iterator[Change]:
    """Yield each `with`, `range` and `else` without what it writes."""
    for block in source.blocks:
        if block.word == "define":
            continue
        first = 1 if block.word == "if" else 0
        yield from ((start, end, "") for start, end in block.bodies[first:])


SWAPS = {
    "eq": "ne",
    "ne": "eq",
    "gt": "ge",
    "ge": "gt",
    "lt": "le",
    "le": "lt",
    "and": "or",
    "or": "and",
    "add": "mul",
    "mul": "add",
    "div": "mul",
    "addf": "mulf",
    "subf": "addf",
    "mulf": "addf",
    "divf": "mulf",
    "min": "max",
    "max": "min",
    "minf": "maxf",
    "maxf": "minf",
    "floor": "ceil",
    "hasSuffix": "hasPrefix",
    "contains": "hasPrefix",
    "ternary": "not | ternary",
    "not": "",
}


def function_swapped(source: Source) -> Iterator[Change]:
    """Yield each comparison, connection and sum as its neighbour."""
    for found in re.finditer(r"(?<![\w.$])[A-Za-z]\w*", source.code):
        if found[0] in SWAPS:
            yield *found.span(), SWAPS[found[0]]


OPERATORS = {"==": "!=", ">=": ">", ">": ">=", " / ": " * ", " and ": " or ", "sum": "max"}


def operator_swapped(source: Source) -> Iterator[Change]:
    """Yield each operator of another language as its neighbour."""
    for start, end in source.literals:
        for found in re.finditer(r"==|>=|>| / | and |\bsum\b", source.yaml[start:end]):
            yield start + found.start(), start + found.end(), OPERATORS[found[0]]


def number_raised(source: Source) -> Iterator[Change]:
    """Yield each number, one higher; those that lay out lines are none."""
    for found in re.finditer(r"(?<![\w.])(?<!\w-)\d+(?=(?:[ms]|Mi)?\b)(?!-\d)", source.text):
        before = source.text[: found.start()]
        if not before.endswith("nindent ") and _matters(source, found.start()):
            yield *found.span(), str(int(found[0]) + 1)


def boolean_flipped(source: Source) -> Iterator[Change]:
    """Yield each `true` as `false` and the other way round."""
    for found in re.finditer(r"(?<![\w./-])(true|false)(?![\w./-])", source.text):
        if _matters(source, found.start()):
            yield *found.span(), "false" if found[0] == "true" else "true"


def _matters(source: Source, place: int) -> bool:
    """Tell whether a place is in no comment."""
    return not source.yaml[place].isspace() if source.yaml[place] != FILLER else _in(source, place)


def _in(source: Source, place: int) -> bool:
    return any(action.start() <= place < action.end() for action in source.actions)


def string_changed(source: Source) -> Iterator[Change]:
    """Yield each string in quotes, longer by a letter."""
    for action in source.actions:
        for found in re.finditer(STRING, action[0]):
            if not re.search(r"(?:include|define) $", action[0][: found.start()]):
                end = action.start() + found.end() - 1
                yield end, end, "x"
    for start, end in source.literals:
        for found in re.finditer(r'"[^"\n]*"', source.text[start:end]):
            yield start + found.end() - 1, start + found.end() - 1, "x"


def template_swapped(source: Source) -> Iterator[Change]:
    """Yield each included template as the next one that takes the same."""
    for found in re.finditer(r'include "([^"]*)"', source.text):
        if other := source.templates.get(found[1]):
            yield *found.span(1), other


def value_swapped(source: Source) -> Iterator[Change]:
    """Yield each value as its neighbour of the same type."""
    for found in re.finditer(r"(?<!\w)(\$\w*)?((?:\.\w+)+)", source.code):
        path = found[2].removeprefix(".Values").removeprefix(".")
        whole = source.siblings.get(path) or source.siblings.get(path.rpartition(".")[2])
        if whole:
            last = found.end() - len(path.rpartition(".")[2])
            yield last, found.end(), whole


LAYOUT = {"fromJson", "fromJsonArray", "toJson", "fromYaml", "toYaml", "nindent", "ternary"}


def stage_dropped(source: Source) -> Iterator[Change]:
    """Yield each pipeline without one of its stages."""
    for found in re.finditer(r" \| (\w+)", source.code):
        if found[1] in LAYOUT:
            continue
        depth, end = 0, found.end()
        while depth or source.code[end] not in "|)}\n":
            depth += {"(": 1, ")": -1}.get(source.code[end], 0)
            end += 1
        while source.code[end - 1] in " -":
            end -= 1
        yield found.start(), end, ""


def line_dropped(source: Source) -> Iterator[Change]:
    """Yield each line gone, with the deeper ones that belong to it."""
    for found in re.finditer(r"(?m)^( *)\S.*\n", source.text):
        if not _matters(source, found.start() + len(found[1])):
            continue
        if KEYWORD.match(found[0].strip()) or _control(found[0].strip()):
            continue
        deeper = re.compile(rf"(?:{found[1]} +\S.*\n)+").match(source.text, found.end())
        end = deeper.end() if deeper and not source.literal(found.start()) else found.end()
        if _balanced(source.text[found.start() : end]):
            yield found.start(), end, ""


def _control(line: str) -> bool:
    """Tell whether a line writes nothing: it assigns, checks, or separates documents."""
    return bool(re.match(r"\{\{-?\s*(\$\w* :?= |fail|/\*)|---$|\{\{-? include .* -\}\}$", line))


def _balanced(text: str) -> bool:
    words = [found[1] for found in map(KEYWORD.match, ACTION.findall(text)) if found]
    depth = 0
    for word in words:
        depth += {"end": -1, "else": 0}.get(word, 1)
        if depth < 0 or (word == "else" and depth == 0):
            return False
    return depth == 0 and ("{{" in ACTION.sub("", text)) == ("}}" in ACTION.sub("", text))


KEY = re.compile(r"(?m)(?:^ *(?:- )?|[{,] ?)([A-Za-z][\w./-]*):(?= |$)")


def key_renamed(source: Source) -> Iterator[Change]:
    """Yield each key of YAML, longer by a letter."""
    for found in KEY.finditer(source.yaml):
        if not source.literal(found.start(1)):
            yield found.end(1), found.end(1), "x"


def scalar_changed(source: Source) -> Iterator[Change]:
    """Yield each plain value of YAML changed; of a list with commas the last goes."""
    for found in re.finditer(r"(?m)(?<=: )([A-Za-z/_.][\w./,#%-]*)(?=[,}\]]|$)", source.yaml):
        value = found[1].rstrip(",")
        if source.literal(found.start()) or value in {"true", "false"}:
            continue
        version = re.search(r"v(\d)$", value)
        listed = value.rpartition(",")[0]
        new = f"{value[:-1]}{int(version[1]) + 1}" if version else listed or f"{value}x"
        yield found.start(), found.start() + len(value), new


def entry_dropped(source: Source) -> Iterator[Change]:
    """Yield each list and object on one line without one of its entries."""
    for found in re.finditer(r"[\[{](?=[^\[\]{}\n]*[\]}])([^\[\]{}\n]+)[\]}]", source.yaml):
        if source.literal(found.start()):
            continue
        parts = [each.span() for each in re.finditer(r"[^,]+", found[1])]
        for number, (start, end) in enumerate(parts):
            first = start - 1 if number else start
            last = end if number else end + (len(parts) > 1)
            yield found.start(1) + first, found.start(1) + last, ""


def document_dropped(source: Source) -> Iterator[Change]:
    """Yield a template that writes nothing at all."""
    if not source.blocks or source.blocks[-1].word != "define":
        yield 0, len(source.text), ""


RULES: tuple[Callable[[Source], Iterator[Change]], ...] = (
    always,
    never,
    body_dropped,
    function_swapped,
    operator_swapped,
    number_raised,
    boolean_flipped,
    string_changed,
    template_swapped,
    value_swapped,
    stage_dropped,
    line_dropped,
    key_renamed,
    scalar_changed,
    entry_dropped,
    document_dropped,
)
