"""A template of a chart as rules of mutation read it, and one place of it turned wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

Change = tuple[int, int, str]  # from, to, and what stands there instead
FILLER = "·"
SHOWN = 110  # characters of a line in a report

STRING = r'"(?:\\.|[^"\\])*"'
ACTION = re.compile(rf"\{{\{{-?\s*(?:/\*.*?\*/|(?:{STRING}|[^\"])*?)\s*-?\}}\}}", re.DOTALL)
KEYWORD = re.compile(r"\{\{-?\s*(if|with|range|define|else|end)\b")


@dataclass(frozen=True)
class Mutation:
    """One place of one template turned wrong."""

    file: str
    rule: str
    text: str
    start: int
    end: int
    new: str

    @property
    def mutated(self) -> str:
        """The whole template with the change."""
        return self.text[: self.start] + self.new + self.text[self.end :]

    @property
    def line(self) -> int:
        """The number of the first changed line."""
        return self.text.count("\n", 0, self.start) + 1

    @property
    def before(self) -> str:
        """The lines as they are."""
        return self._lines(self.text, self.end)

    @property
    def after(self) -> str:
        """The lines as they would be."""
        return self._lines(self.mutated, self.start + len(self.new))

    def _lines(self, text: str, end: int) -> str:
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", max(end - 1, first))
        lines = [each.strip() for each in text[first : None if last < 0 else last].splitlines()]
        shown = lines[0] if lines else ""
        if len(shown) > SHOWN:
            middle = max(0, min(self.start - first - SHOWN // 2, len(shown) - SHOWN))
            shown = f"…{shown[middle : middle + SHOWN]}…"
        return shown if len(lines) < 2 else f"{shown} (and {len(lines) - 1} more)"  # noqa: PLR2004


@dataclass(frozen=True)
class Block:
    """From `if`, `with`, `range` or `define` to its end."""

    word: str
    parts: tuple[re.Match[str], ...]  # the opening, each else, the end

    @property
    def bodies(self) -> list[tuple[int, int]]:
        """What stands between the parts."""
        return [(one.end(), other.start()) for one, other in pairwise(self.parts)]


class Source:
    """The text of a template, with its actions told from what they write into."""

    def __init__(
        self, text: str, siblings: Mapping[str, str], templates: Mapping[str, str]
    ) -> None:
        """`siblings` says what a value, and `templates` what a template may be mistaken for."""
        self.text, self.siblings, self.templates = text, siblings, templates

    @cached_property
    def actions(self) -> list[re.Match[str]]:
        """Everything between braces that is no comment."""
        return [each for each in ACTION.finditer(self.text) if "/*" not in each[0][:6]]

    @cached_property
    def code(self) -> str:
        """The actions alone, their strings blanked, each character where it is in the text."""
        kept = [" "] * len(self.text)
        for action in self.actions:
            body = re.sub(STRING, lambda found: f'"{FILLER * (len(found[0]) - 2)}"', action[0])
            kept[action.start() : action.end()] = body
        return "".join(kept)

    @cached_property
    def yaml(self) -> str:
        """The text without its actions and comments, each character where it is."""
        text = ACTION.sub(lambda found: re.sub(r"[^\n]", FILLER, found[0]), self.text)
        return re.sub(r"(?m)(?:^| ) *#.*$", lambda found: " " * len(found[0]), text)

    @cached_property
    def literals(self) -> list[tuple[int, int]]:
        """Block scalars, in which another language stands."""
        found = []
        for head in re.finditer(r"(?m)^( *).*\|-?$", self.yaml):
            deeper = re.compile(rf"(?:\n(?:{head[1]} +\S.*)?)+").match(self.text, head.end())
            if deeper:
                found.append(deeper.span())
        return found

    def literal(self, place: int) -> bool:
        """Tell whether a place is within another language."""
        return any(start <= place < end for start, end in self.literals)

    @cached_property
    def blocks(self) -> list[Block]:
        """Every control block, inner ones first."""
        found: list[Block] = []
        opened: list[tuple[str, list[re.Match[str]]]] = []
        for action in self.actions:
            keyword = KEYWORD.match(action[0])
            if keyword is None:
                continue
            if keyword[1] == "else":
                opened[-1][1].append(action)
            elif keyword[1] == "end":
                word, parts = opened.pop()
                found.append(Block(word, (*parts, action)))
            else:
                opened.append((keyword[1], [action]))
        return found
