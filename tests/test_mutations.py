"""The table of mutations fits the library and the service as they are."""

import ast
from pathlib import Path

import pytest

from tools.mutate import QUARTERS, TEMPLATE, Mutation, load, located, quarter_of

MUTATIONS = load()


def test_there_are_ten_at_least_and_each_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 10


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_one_place_and_leaves_python(mutation: Mutation, tmp_path: Path) -> None:
    file = tmp_path.joinpath(*located(mutation.file))
    file.parent.mkdir(parents=True)
    before = TEMPLATE.joinpath(*located(mutation.file)).read_text(encoding="utf-8")
    file.write_text(before, encoding="utf-8")
    mutation.apply(tmp_path)
    after = file.read_text(encoding="utf-8")
    assert after != before
    ast.parse(after)
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in TEMPLATE.joinpath(*located(path)).read_text(encoding="utf-8")


def test_four_commits_in_a_row_try_the_whole_table() -> None:
    quarters = [quarter_of(MUTATIONS, commits) for commits in range(101, 101 + QUARTERS)]
    assert max(map(len, quarters)) - min(map(len, quarters)) <= 1
    assert sorted(one.name for some in quarters for one in some) == sorted(
        one.name for one in MUTATIONS
    )
