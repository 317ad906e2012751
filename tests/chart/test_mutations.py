"""The rules that break the chart break what they name, and every survivor is accounted for."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chart import charts
from tests.chart.charts import CHART, defaults
from tools import mutate_chart
from tools.chart_bench import Bench, Usual
from tools.chart_corpus import leaves, parts
from tools.chart_mutations import chosen, includable, mutations, neighbours
from tools.chart_report import Verdict, write
from tools.chart_rules import RULES
from tools.chart_source import Mutation, Source

VALUES = {"on": True, "off": False, "size": 1, "web": {"port": 80, "delay": 5}, "name": "games"}
TEMPLATES = '{{ define "a" }}{{ end }}{{ define "b" }}{{ end }}'

# A rule, a template, and all that the rule makes of it.
CASES: list[tuple[str, str, list[str]]] = [
    (
        "always",
        "{{ if .on }}{{ else if and .off (gt 2 1) }}{{ end }}",
        [
            "{{ if true }}{{ else if and .off (gt 2 1) }}{{ end }}",
            "{{ if .on }}{{ else if true }}{{ end }}",
        ],
    ),
    ("never", "{{- if not .on -}}x{{ end }}", ["{{- if false -}}x{{ end }}"]),
    (
        "body_dropped",
        "{{ with .on }}1{{ else }}2{{ end }}{{ if .on }}3{{ else }}4{{ end }}",
        [
            "{{ with .on }}{{ else }}2{{ end }}{{ if .on }}3{{ else }}4{{ end }}",
            "{{ with .on }}1{{ else }}{{ end }}{{ if .on }}3{{ else }}4{{ end }}",
            "{{ with .on }}1{{ else }}2{{ end }}{{ if .on }}3{{ else }}{{ end }}",
        ],
    ),
    (
        "function_swapped",
        '{{ if or (gt .size 1) (eq .name "and") }}{{ .on | ternary 1 2 }} or {{ end }}',
        [
            '{{ if and (gt .size 1) (eq .name "and") }}{{ .on | ternary 1 2 }} or {{ end }}',
            '{{ if or (ge .size 1) (eq .name "and") }}{{ .on | ternary 1 2 }} or {{ end }}',
            '{{ if or (gt .size 1) (ne .name "and") }}{{ .on | ternary 1 2 }} or {{ end }}',
            '{{ if or (gt .size 1) (eq .name "and") }}{{ .on | not | ternary 1 2 }} or {{ end }}',
        ],
    ),
    (
        "operator_swapped",
        "a: 1 > 2\nrun: |\n  # a > 1\n  assert a > 1 and b == 2  # c and d\nb: x\n",
        [
            "a: 1 > 2\nrun: |\n  # a > 1\n  assert a >= 1 and b == 2  # c and d\nb: x\n",
            "a: 1 > 2\nrun: |\n  # a > 1\n  assert a > 1 or b == 2  # c and d\nb: x\n",
            "a: 1 > 2\nrun: |\n  # a > 1\n  assert a > 1 and b != 2  # c and d\nb: x\n",
        ],
    ),
    (
        "number_raised",
        '# 7\na1: 5m\nb: {{ add 9 .web | nindent 4 }}{{/* 8 */}}{{ find "[0-9]" .on }}\n',
        [
            '# 7\na1: 6m\nb: {{ add 9 .web | nindent 4 }}{{/* 8 */}}{{ find "[0-9]" .on }}\n',
            '# 7\na1: 5m\nb: {{ add 10 .web | nindent 4 }}{{/* 8 */}}{{ find "[0-9]" .on }}\n',
        ],
    ),
    (
        "boolean_flipped",
        "# true\na: true\nb: {{ default false .on }}\n",
        [
            "# true\na: false\nb: {{ default false .on }}\n",
            "# true\na: true\nb: {{ default true .on }}\n",
        ],
    ),
    (
        "string_changed",
        'a: "b"\nc: {{ include "d" . | default "e }}" }}\nrun: |\n  print("f")\n',
        [
            'a: "b"\nc: {{ include "d" . | default "e }}x" }}\nrun: |\n  print("f")\n',
            'a: "b"\nc: {{ include "d" . | default "e }}" }}\nrun: |\n  print("fx")\n',
        ],
    ),
    ("template_swapped", '{{ include "a" . }}', ['{{ include "b" . }}']),
    (
        "value_swapped",
        "{{ .Values.on }}{{ .Values.web.port }}{{ .name }}{{ $web.delay }}{{ $.size.of }}",
        [
            "{{ .Values.off }}{{ .Values.web.port }}{{ .name }}{{ $web.delay }}{{ $.size.of }}",
            "{{ .Values.on }}{{ .Values.web.delay }}{{ .name }}{{ $web.delay }}{{ $.size.of }}",
            "{{ .Values.on }}{{ .Values.web.port }}{{ .name }}{{ $web.port }}{{ $.size.of }}",
        ],
    ),
    (
        "stage_dropped",
        "{{ (.name | trunc 9) | quote }}{{ .web | toYaml | nindent 2 }}",
        [
            "{{ (.name) | quote }}{{ .web | toYaml | nindent 2 }}",
            "{{ (.name | trunc 9) }}{{ .web | toYaml | nindent 2 }}",
        ],
    ),
    (
        "line_dropped",
        "# Why.\na:\n  b: 1\n  {{- if .on }}\n  c: 2\n  {{- end }}\n{{/* What.\n*/}}\n{{ .d }}\n",
        [
            "# Why.\n{{/* What.\n*/}}\n{{ .d }}\n",
            "# Why.\na:\n  {{- if .on }}\n  c: 2\n  {{- end }}\n{{/* What.\n*/}}\n{{ .d }}\n",
            "# Why.\na:\n  b: 1\n  {{- if .on }}\n  {{- end }}\n{{/* What.\n*/}}\n{{ .d }}\n",
            "# Why.\na:\n  b: 1\n  {{- if .on }}\n  c: 2\n  {{- end }}\n{{/* What.\n*/}}\n",
        ],
    ),
    (
        "key_renamed",
        "a: {b.c/d: 1}\n- e: http://f\nrun: |\n  try: x\n",
        [
            "ax: {b.c/d: 1}\n- e: http://f\nrun: |\n  try: x\n",
            "a: {b.c/dx: 1}\n- e: http://f\nrun: |\n  try: x\n",
            "a: {b.c/d: 1}\n- ex: http://f\nrun: |\n  try: x\n",
            "a: {b.c/d: 1}\n- e: http://f\nrunx: |\n  try: x\n",
        ],
    ),
    (
        "scalar_changed",
        "apiVersion: apps/v1\nhook: a,b\nc: {d: e, f: 1, g: true, h: {{ .on }}}\n",
        [
            "apiVersion: apps/v2\nhook: a,b\nc: {d: e, f: 1, g: true, h: {{ .on }}}\n",
            "apiVersion: apps/v1\nhook: a\nc: {d: e, f: 1, g: true, h: {{ .on }}}\n",
            "apiVersion: apps/v1\nhook: a,b\nc: {d: ex, f: 1, g: true, h: {{ .on }}}\n",
        ],
    ),
    (
        "entry_dropped",
        "a: [b, c]\nd: {e: [f], g: 1}\n",
        [
            "a: [ c]\nd: {e: [f], g: 1}\n",
            "a: [b]\nd: {e: [f], g: 1}\n",
            "a: [b, c]\nd: {e: [], g: 1}\n",
        ],
    ),
    ("document_dropped", "kind: {{ .name }}\n", [""]),
]


def applied(rule: str, text: str) -> list[str]:
    (chosen_rule,) = [each for each in RULES if each.__name__ == rule]
    source = Source(text, neighbours(VALUES), includable(TEMPLATES))
    return [Mutation("x", rule, text, *change).mutated for change in chosen_rule(source)]


@pytest.mark.parametrize(("rule", "text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_breaks_what_it_names_and_nothing_else(
    rule: str, text: str, expected: list[str]
) -> None:
    assert sorted(applied(rule, text)) == sorted(expected)


def test_each_rule_has_a_case() -> None:
    assert [case[0] for case in CASES] == [rule.__name__ for rule in RULES]


@pytest.fixture(scope="module")
def every() -> list[Mutation]:
    return list(mutations(CHART))


def test_every_template_is_broken_in_many_places(every: list[Mutation]) -> None:
    folder = CHART / "templates"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    counts = Counter(one.file for one in every)
    assert set(counts) == files
    assert min(counts.values()) >= 10
    assert len(every) > 1000


def test_no_mutation_is_made_twice_or_changes_nothing(every: list[Mutation]) -> None:
    assert len({(one.file, one.mutated) for one in every}) == len(every)
    assert all(one.mutated != one.text for one in every)


def test_a_mutation_is_shown_by_its_line(every: list[Mutation]) -> None:
    for one in every:
        line = one.text.splitlines()[one.line - 1].strip()
        assert one.before.partition(" (and ")[0].strip("…") in line


def test_some_of_each_template_are_chosen_always_the_same(every: list[Mutation]) -> None:
    some = chosen(every, mutate_chart.EACH)
    assert some == chosen(list(mutations(CHART)), mutate_chart.EACH)
    assert len(some) >= 200
    whole, tried = (Counter(one.file for one in part) for part in (every, some))
    assert tried == {file: min(mutate_chart.EACH, count) for file, count in whole.items()}
    assert {one.rule for one in some} == {one.rule for one in every}


def test_four_quarters_try_what_is_chosen_and_each_tries_some_of_every_template(
    every: list[Mutation],
) -> None:
    some = chosen(every, mutate_chart.EACH)
    quarters = [mutate_chart.choose([], mutate_chart.EACH, quarter) for quarter in range(4)]
    assert {one for quarter in quarters for one in quarter} == set(some)
    assert all({one.file for one in quarter} == {one.file for one in some} for quarter in quarters)


def test_a_bench_tells_what_is_killed_equivalent_and_survives(tmp_path: Path) -> None:
    charts.tool("helm-unittest")
    bench, usual = Bench(tmp_path / "broken"), Usual(Bench(tmp_path / "whole"))
    text = (CHART / "templates/prometheusrule.yaml").read_text(encoding="utf-8")

    def judged(old: str, new: str) -> tuple[str, str]:
        start = text.index(old)
        change = (start, start + len(old), new)
        mutation = Mutation("prometheusrule.yaml", "by hand", text, *change)
        return bench.judge(mutation, usual, quick=True)

    assert judged("for: 2m", "for: 3m")[0] == "killed"
    assert "alerts after some minutes" in judged("for: 2m", "for: 3m")[1]
    assert judged("labels: {severity: critical, ", "labels: {severity: 'critical', ") == (
        "equivalent",
        "corpus",
    )
    assert judged("sum by (pod) (db_pool_size", "max by (pod) (db_pool_size")[0] == "survived"


def verdict(verdict: str, line: int = 1) -> Verdict:
    return Verdict("pdb.yaml", line, "always", f"a{line}", f"b{line}", verdict, "", 0.1)


def survivor(line: int) -> dict[mutate_chart.Survivor, str]:
    return {("pdb.yaml", "always", f"a{line}", f"b{line}"): "because"}


def test_a_survivor_must_be_listed() -> None:
    (told,) = mutate_chart.complaints([verdict("survived"), verdict("killed", 2)], {})
    assert told.startswith("survived: pdb.yaml:1 always")
    assert (
        mutate_chart.complaints([verdict("survived"), verdict("equivalent", 2)], survivor(1)) == []
    )


@pytest.mark.parametrize("became", ["killed", "equivalent"])
def test_what_is_listed_must_survive(became: str) -> None:
    (told,) = mutate_chart.complaints([verdict(became)], survivor(1))
    assert told.startswith(f"listed as a survivor, but {became}: pdb.yaml:1")


def test_four_survivors_are_too_many_though_all_are_listed() -> None:
    lines = range(1, 5)
    reasons = {key: reason for line in lines for key, reason in survivor(line).items()}
    found = [verdict("survived", line) for line in lines]
    assert mutate_chart.complaints(found[:3], reasons) == []
    assert mutate_chart.complaints(found, reasons) == ["4 survived, and 3 may"]


def test_every_listed_survivor_is_a_mutation_and_has_a_reason(every: list[Mutation]) -> None:
    reasons = mutate_chart.listed()
    assert mutate_chart.gone(every, reasons) == []
    assert mutate_chart.gone(every, survivor(1)) != []
    assert all(len(reason) > 20 for reason in reasons.values())
    assert len(reasons) <= mutate_chart.MOST_SURVIVORS


def test_the_corpus_changes_every_value_and_names_each_release_once() -> None:
    whole = parts(CHART)
    releases = [release.name for name, part in whole if name == "service" for release in part]
    assert len(set(releases)) == len(releases) > 200
    changed = {name.rpartition(" ")[0] for name in releases}
    assert set(leaves(defaults())) <= changed


def test_the_report_counts_what_was_tried(tmp_path: Path) -> None:
    found = [
        verdict("killed"),
        verdict("killed", 2),
        verdict("equivalent", 3),
        verdict("survived", 4),
    ]
    summary = write(tmp_path / "made/report", 9, found, survivor(4), 1.0)
    assert "9 mutations are made by rule, 4 were tried" in summary
    assert "1 are equivalent; of 3 that change what the chart does 2 were killed" in summary
    page = (tmp_path / "made/report.md").read_text()
    assert "- pdb.yaml:4, always: `` a4 `` -> `` b4 `` (because)" in page
    assert '"score": 0.6667' in (tmp_path / "made/report.json").read_text()
