"""How many decoder processes there may be."""

import os

import pytest

from runtime.receiver.processors import allowed_processors


def make(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/box/inner\n", "sys/fs/cgroup/box/cpu.max": "100000 100000\n"},
        {"proc/self/cgroup": "0::/not/seen/here\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/box\n2:memory:/\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "90000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_control_group_that_may_use_one_processor_gets_one(tmp_path, files):
    make(tmp_path, files)
    assert allowed_processors(tmp_path) == 1


def test_without_a_limit_affinity_counts(tmp_path):
    make(tmp_path, {"proc/self/cgroup": "0::/\nodd: line:\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    allowed = os.sched_getaffinity(0)
    assert allowed_processors(tmp_path) == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert allowed_processors(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)
