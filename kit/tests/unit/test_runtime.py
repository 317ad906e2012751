"""The parts of one running service."""

from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from slipway_kit.runtime import Runtime, runtime_of


class Mailer:
    """A part that a team adds."""


class LoudMailer(Mailer):
    """Another implementation of it."""


@dataclass(frozen=True)
class Numbers:
    first: int


def test_a_part_is_found_by_its_type() -> None:
    runtime = Runtime()
    mailer = runtime.add(Mailer())
    assert runtime.get(Mailer) is mailer


def test_the_last_part_of_a_type_counts() -> None:
    runtime = Runtime()
    runtime.add(Numbers(1))
    runtime.add(Numbers(2))
    assert runtime.get(Numbers) == Numbers(2)


def test_a_part_can_stand_for_a_class_that_it_inherits_from() -> None:
    runtime = Runtime()
    loud = runtime.add(LoudMailer(), Mailer)
    assert runtime.get(Mailer) is loud
    with pytest.raises(LookupError):
        runtime.get(LoudMailer)


def test_a_part_that_nobody_added_is_named_in_one_sentence() -> None:
    with pytest.raises(LookupError) as caught:
        Runtime().get(Mailer)
    assert str(caught.value).startswith("The runtime has no Mailer: add one where ")


def test_every_application_has_a_runtime_and_its_requests_find_it() -> None:
    app, other = FastAPI(), FastAPI()
    request = HTTPConnection({"type": "http", "app": app})
    assert runtime_of(app) is runtime_of(app)
    assert runtime_of(request) is runtime_of(app)
    assert runtime_of(other) is not runtime_of(app)
