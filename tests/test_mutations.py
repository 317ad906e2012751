"""The table of mutations fits the service as it is."""

import ast
from pathlib import Path

import pytest

from tools.mutate import SERVICE, Mutation, load

MUTATIONS = load()


def test_there_are_ten_at_least_and_each_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 10


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_one_place_and_leaves_python(mutation: Mutation, tmp_path: Path) -> None:
    file = tmp_path / mutation.file
    file.parent.mkdir(parents=True)
    before = (SERVICE / mutation.file).read_text(encoding="utf-8")
    file.write_text(before, encoding="utf-8")
    mutation.apply(tmp_path)
    after = file.read_text(encoding="utf-8")
    assert after != before
    ast.parse(after)
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in (SERVICE / path).read_text(encoding="utf-8")
