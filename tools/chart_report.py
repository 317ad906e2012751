"""What became of each mutation, as JSON and as Markdown."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What became of a mutation, and which check said so."""

    file: str
    line: int
    rule: str
    before: str
    after: str
    verdict: str  # killed, equivalent or survived
    by: str
    seconds: float

    def __str__(self) -> str:
        """Return two lines: the place and the verdict, and what was changed there."""
        by = f" by {self.by}" if self.verdict == "killed" else ""
        place = f"{self.file}:{self.line} {self.rule}: {self.verdict}{by} ({self.seconds} s)"
        return f"{place}\n    {self.before}  ->  {self.after}"


def write(
    path: Path,
    made: int,
    verdicts: Sequence[Verdict],
    reasons: Mapping[tuple[str, str, str, str], str],
    seconds: float,
) -> str:
    """Write both reports beside each other, and return the summary."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    changing = counts["killed"] + counts["survived"]
    about: dict[str, Any] = {
        "made": made,
        "tried": len(verdicts),
        "equivalent": counts["equivalent"],
        "behaviour_changing": changing,
        "killed": counts["killed"],
        "survived": counts["survived"],
        "score": round(counts["killed"] / changing, 4) if changing else None,
        "seconds": round(seconds),
    }
    entries = [
        asdict(each) | {"reason": reasons.get((each.file, each.rule, each.before, each.after), "")}
        for each in verdicts
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about | {"mutations": entries}, indent=2)
    path.with_suffix(".json").write_text(f"{text}\n", encoding="utf-8")
    summary = _summary(about)
    path.with_suffix(".md").write_text(_page(summary, entries), encoding="utf-8")
    return summary


def _summary(about: Mapping[str, Any]) -> str:
    return (
        f"{about['made']} mutations are made by rule, {about['tried']} were tried"
        f" in {about['seconds']} s: {about['equivalent']} are equivalent;"
        f" of {about['behaviour_changing']} that change what the chart does"
        f" {about['killed']} were killed and {about['survived']} survived."
    )


def _page(summary: str, entries: Sequence[Mapping[str, Any]]) -> str:
    lines = ["# Mutations of the chart", "", summary, ""]
    for title, key in (("rule", "rule"), ("template", "file")):
        lines += [f"| {title} | killed | survived | equivalent |", "|---|---|---|---|"]
        for name in sorted({each[key] for each in entries}):
            counts = Counter(each["verdict"] for each in entries if each[key] == name)
            shown = (counts[word] for word in ("killed", "survived", "equivalent"))
            lines.append(f"| {name} | {' | '.join(map(str, shown))} |")
        lines.append("")
    for verdict in ("survived", "equivalent", "killed"):
        lines += [f"## {verdict.capitalize()}", ""]
        lines += [_entry(each) for each in entries if each["verdict"] == verdict]
        lines.append("")
    return "\n".join(lines)


def _entry(each: Mapping[str, Any]) -> str:
    why = each["reason"] or each["by"]
    place = f"{each['file']}:{each['line']}"
    return f"- {place}, {each['rule']}: `` {each['before']} `` -> `` {each['after']} `` ({why})"
