"""The CPU and memory that the container may use, from cgroup v1 or v2."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# cgroup v1 writes "no limit" as the largest page-aligned number, not as a word.
_NO_LIMIT_BYTES = 2**60


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The lowest limit of the group and its parents; None without one."""

    cpus: float | None = None
    memory_bytes: int | None = None


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """Read the limits of this process below `root`; without a cgroup there are none."""
    groups = dict(_groups(root))
    mount = root / "sys/fs/cgroup"
    cpus = filter(None, map(_cpus, _mounted(mount, groups, "cpu")))
    memory = filter(None, map(_memory, _mounted(mount, groups, "memory")))
    return CgroupLimits(min(cpus, default=None), min(memory, default=None))


def _groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield controller and group; the controller of cgroup v2 is the empty string."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, PurePosixPath(group)


def _mounted(mount: Path, groups: dict[str, PurePosixPath], controller: str) -> list[Path]:
    """List the folders of the group and its parents, existing or not."""
    if controller in groups:
        found = [mount / controller, mount / "cpu,cpuacct", mount / "cpuacct,cpu"]
        base = next((folder for folder in found if folder.is_dir()), mount / controller)
        group = groups[controller]
    else:
        base, group = mount, groups.get("", PurePosixPath("/"))
    relative = group.relative_to("/") if group.is_absolute() else group
    return [base / relative, *(base / parent for parent in relative.parents)]


def _cpus(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _memory(folder: Path) -> int | None:
    limit = (_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")).strip()
    return int(limit) if limit.isdigit() and int(limit) < _NO_LIMIT_BYTES else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
