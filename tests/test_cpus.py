"""The number of threads at the start: the environment, the CPUs, the control groups."""

import math
import os

import pytest
from children import run, run_well

from pycnn import _cpus

SAY_THREADS = "import pycnn; print(pycnn.get_num_threads())"


def threads_of_process(**environment):
    names = {"PYCNN_NUM_THREADS": None, "OMP_NUM_THREADS": None}
    return int(run_well("-c", SAY_THREADS, **(names | environment)))


def test_without_variables_it_is_the_number_of_cpus():
    assert threads_of_process() == threads_of_process(PYCNN_NUM_THREADS="")
    assert threads_of_process() == min(_cpus.cpu_count(), 256)


@pytest.mark.parametrize("text", ["1", "3", " 7 ", "256", "007"])
def test_our_variable(text):
    assert threads_of_process(PYCNN_NUM_THREADS=text, OMP_NUM_THREADS="5") == int(text)


@pytest.mark.parametrize(
    "text", ["0", "-1", "257", "2.0", "two", "4,2", "1_0", "\u0663", "9" * 5000]
)
def test_our_variable_must_make_sense(text):
    with pytest.raises(ImportError) as raised:
        _cpus.count_from_environment({"PYCNN_NUM_THREADS": text, "OMP_NUM_THREADS": "2"})
    rule = "must be a whole number from 1 to 256"
    assert str(raised.value) == f"PYCNN_NUM_THREADS={text}: {rule}"


def test_our_variable_fails_the_import():
    child = run("-c", "import pycnn", PYCNN_NUM_THREADS="many")
    assert child.returncode == 1
    assert "ImportError: PYCNN_NUM_THREADS=many: must be" in child.stderr.splitlines()[-1]


@pytest.mark.parametrize(("text", "n"), [("3", 3), ("5,2", 5), (" 6 , 1", 6), ("100000", 256)])
def test_variable_of_openmp(text, n):
    assert _cpus.count_from_environment({"OMP_NUM_THREADS": text}) == n
    assert threads_of_process(OMP_NUM_THREADS=text) == n


@pytest.mark.parametrize("text", ["", "0", "-2", "all", ",2", "1.5"])
def test_a_malformed_variable_of_openmp_counts_as_unset(text):
    assert _cpus.count_from_environment({"OMP_NUM_THREADS": text}) is None
    assert threads_of_process(OMP_NUM_THREADS=text) == threads_of_process()


def test_cpus_this_process_may_use():
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= _cpus.cpu_count() <= _cpus.cpu_count(quota=math.inf) <= most
    if hasattr(os, "sched_getaffinity"):
        assert _cpus.cpu_count(quota=math.inf) == most


@pytest.mark.parametrize(("granted", "cpus"), [(3, 3), (0, 8)])
def test_affinity_as_windows_has_it(granted, cpus, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(_cpus._engine, "affinity_cpus", lambda: granted)
    assert _cpus.cpu_count(quota=math.inf) == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_one_cpu_is_one_thread():
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + SAY_THREADS
    assert run_well("-c", script, PYCNN_NUM_THREADS=None, OMP_NUM_THREADS=None) == "1\n"


@pytest.mark.parametrize(("quota", "cpus"), [(0.1, 1), (1.0, 1), (1.01, 2), (0.0, 1)])
def test_a_quota_rounds_up(quota, cpus, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert _cpus.cpu_count(quota) == cpus


def groups(tmp_path, membership, files):
    """Lay out a membership file and control files; return the quota they make."""
    root = tmp_path / "cgroup"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "self").write_text(membership, encoding="utf-8")
    return _cpus.cgroup_quota(tmp_path / "self", root)


V2 = "0::/slice/service\n"
V1 = "5:devices:/\n4:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        (V2, {"slice/service/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"slice/service/cpu.max": "max 100000\n"}, math.inf),
        (V2, {"slice/service/cpu.max": "max 100000\n", "slice/cpu.max": "20000 10000\n"}, 2.0),
        (V2, {"slice/service/cpu.max": "30000 10000\n", "slice/cpu.max": "20000 10000\n"}, 2.0),
        (V2, {"cpu.max": "400000 100000\n"}, 4.0),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (V2, {"other/cpu.max": "100000 100000\n"}, math.inf),
        (V2, {"slice/cpu.max": "nonsense\n"}, math.inf),
        (V2, {"slice/cpu.max": "1 0\n"}, 1.0),
        (V2, {}, math.inf),
        (
            V1,
            {
                "cpu/docker/abc/cpu.cfs_quota_us": "300000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n"}, math.inf),
        ("", {"cpu.max": "100000 100000\n"}, math.inf),
    ],
)
def test_quota(tmp_path, membership, files, quota):
    assert groups(tmp_path, membership, files) == quota


def test_a_system_without_control_groups(tmp_path):
    assert _cpus.cgroup_quota(tmp_path / "nothing", tmp_path) == math.inf
