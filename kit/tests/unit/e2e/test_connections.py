"""Counts of connections are held to the budget of their time."""

from kit.tests.e2e.connections import Ledger


def test_a_count_is_held_to_the_releases_whose_pods_may_live() -> None:
    ledger = Ledger("x", budgets=[(10, 50), (20, 30), (30, 30)])
    assert [ledger.allowed(when) for when in (9, 10, 20, 30)] == [None, 50, 50, 30]


def test_what_is_above_its_budget_is_told() -> None:
    ledger = Ledger("x", counted=[(9, 99), (11, 50), (12, 51), (40, 31)])
    ledger.budgets += [(10, 50), (20, 30), (30, 30)]
    assert ledger.excesses() == [(51, 50), (31, 30)]
    assert ledger.peak() == 99
