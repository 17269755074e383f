"""pycnn seen and limited by threadpoolctl."""

import threading

import threadpoolctl
from children import run_well

import pycnn
import pycnn.threadpoolctl
from pycnn import config


def ours():
    """Return what threadpoolctl says of pycnn's pools."""
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "pycnn"]


def test_it_is_listed_once():
    pycnn.threadpoolctl.register()
    pycnn.threadpoolctl.register()
    (pool,) = ours()
    assert pool["internal_api"] == "pycnn"
    assert pool["version"] == pycnn.__version__
    assert pool["num_threads"] == pycnn.get_num_threads()


def test_limits():
    pycnn.threadpoolctl.register()
    before = pycnn.get_num_threads()
    with threadpoolctl.threadpool_limits(3, user_api="pycnn"):
        assert pycnn.get_num_threads() == 3
        assert ours()[0]["num_threads"] == 3
        with threadpoolctl.threadpool_limits(1):
            assert pycnn.get_num_threads() == 1
        assert pycnn.get_num_threads() == 3
    assert pycnn.get_num_threads() == before
    with config.threads(2):
        with threadpoolctl.threadpool_limits(5, user_api="pycnn"):
            assert pycnn.get_num_threads() == 5
        assert pycnn.get_num_threads() == 2
    assert pycnn.get_num_threads() == before


def test_limits_out_of_range_are_brought_into_it():
    pycnn.threadpoolctl.register()
    with threadpoolctl.threadpool_limits(100_000, user_api="pycnn"):
        assert pycnn.get_num_threads() == 256
    with threadpoolctl.threadpool_limits(0, user_api="pycnn"):
        assert pycnn.get_num_threads() == 1


def test_limits_hold_for_one_thread():
    pycnn.threadpoolctl.register()
    before = pycnn.get_num_threads()
    seen = []
    with threadpoolctl.threadpool_limits(before + 1, user_api="pycnn"):
        thread = threading.Thread(target=lambda: seen.append(pycnn.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [before]


def test_a_limit_that_ended_leaves_nothing_behind():
    """The process's number, set later, holds in the thread that was limited."""
    script = """
import pycnn.threadpoolctl, threadpoolctl
pycnn.threadpoolctl.register()
pycnn.set_num_threads(4)
with threadpoolctl.threadpool_limits(1):
    assert pycnn.get_num_threads() == 1
pycnn.set_num_threads(6)
print(pycnn.get_num_threads())
"""
    assert run_well("-c", script) == "6\n"


def test_pycnn_does_not_import_it():
    script = "import pycnn, sys; print('threadpoolctl' in sys.modules)"
    assert run_well("-c", script) == "False\n"
