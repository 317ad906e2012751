"""What a schema cannot see: whether the objects of a release fit each other."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from tests.chart import lifetimes, network, wiring
from tests.chart.charts import Object
from tests.chart.objects import Release, references, title

RULES: tuple[Callable[[Release], Iterator[str]], ...] = (
    wiring.one_of_each,
    wiring.labels,
    wiring.selectors,
    wiring.lasting,
    wiring.ports,
    wiring.ways_in,
    wiring.tests,
    wiring.monitors,
    wiring.queries,
    network.covered,
    network.types,
    network.entrances,
    network.exits,
    network.tests,
    lifetimes.scaling,
    lifetimes.volumes,
    lifetimes.shutdown,
    lifetimes.hooks,
)


def problems(
    objects: Iterable[Object], outside: Mapping[tuple[str, str], set[str]] | None = None
) -> list[str]:
    """Return what does not fit, a sentence each.

    `outside` names what must exist elsewhere, by kind and name, with the keys that it holds.
    """
    release = Release(objects)
    found = [sentence for rule in RULES for sentence in rule(release)]
    return found + list(_resolve(release, outside or {}))


def _resolve(release: Release, outside: Mapping[tuple[str, str], set[str]]) -> Iterator[str]:
    asked = set()
    for each in release.objects:
        for wanted in set(references(each)):
            there = release.get(wanted.kind, wanted.name)
            asked.add((wanted.kind, wanted.name))
            if there is None and (wanted.kind, wanted.name) not in outside:
                yield f"{title(each)} refers to {wanted}, which is nowhere"
                continue
            data = [(there or {}).get(field) or {} for field in ("data", "stringData")]
            keys = {key for part in data for key in part}
            keys |= outside.get((wanted.kind, wanted.name), set())
            for key in sorted(wanted.keys - keys):
                yield f"{title(each)} wants the key {key} of {wanted}, which it lacks"
    for kind, name in sorted(outside.keys() - asked):
        yield f"nothing refers to {kind} {name}, which is said to be outside"
