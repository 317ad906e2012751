from pathlib import Path

import pytest

from slipway_kit.config.cgroup import CgroupLimits, read_limits

MIB = 1024 * 1024


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_version_2_in_a_container(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": f"{512 * MIB}\n",
    }
    assert read_limits(tree(tmp_path, files)) == CgroupLimits(1.5, 512 * MIB)


def test_version_2_takes_the_tightest_of_the_group_and_its_parents(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pods/one/box\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/pods/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/pods/one/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/pods/one/box/cpu.max": "max 100000\n",
        "sys/fs/cgroup/pods/one/memory.max": f"{256 * MIB}\n",
        "sys/fs/cgroup/pods/one/box/memory.max": "max\n",
    }
    assert read_limits(tree(tmp_path, files)) == CgroupLimits(2.0, 256 * MIB)


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_version_1_finds_the_controller_under_each_of_its_names(tmp_path: Path, mount: str) -> None:
    files = {
        "proc/self/cgroup": f"4:memory:/docker/abc\n2:{mount}:/docker/abc\n0::/\n",
        f"sys/fs/cgroup/{mount}/docker/abc/cpu.cfs_quota_us": "50000\n",
        f"sys/fs/cgroup/{mount}/docker/abc/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{64 * MIB}\n",
    }
    assert read_limits(tree(tmp_path, files)) == CgroupLimits(0.5, 64 * MIB)


def test_version_1_in_a_container_whose_own_path_is_not_mounted(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/kubepods/pod1/abc\n2:cpu:/kubepods/pod1/abc\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{128 * MIB}\n",
    }
    assert read_limits(tree(tmp_path, files)) == CgroupLimits(3.0, 128 * MIB)


def test_version_1_without_limits(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/\n2:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert read_limits(tree(tmp_path, files)) == CgroupLimits(None, None)


def test_no_cgroup_at_all(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == CgroupLimits(None, None)


def test_this_machine_can_be_read() -> None:
    limits = read_limits()
    assert limits.cpus is None or limits.cpus > 0
