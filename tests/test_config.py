"""show_config, the choice of the instruction set, and the number of threads."""

import threading

import numpy as np
import pytest
from children import run, run_well

import pycnn
from pycnn import config

LEVELS = config.get_config()["cpu"]["levels"]
USABLE = [name for name, available in LEVELS.items() if available]
MISSING = [name for name, available in LEVELS.items() if not available]

SAY_LEVEL = "import pycnn; print(pycnn.config.get_config()['cpu']['level'])"


def test_get_config():
    facts = config.get_config()
    assert facts["version"] == pycnn.__version__
    assert facts["build"]["compiler"].split()[0] in ("gcc", "clang", "unknown")
    assert facts["cpu"]["level"] in USABLE
    assert "generic" in USABLE
    assert facts["threads"]["num_threads"] == pycnn.get_num_threads()
    assert facts["threads"]["cpus"] >= 1
    assert facts["threads"]["pool"] in (True, False)
    assert facts["python"]["numpy"] == np.__version__


def test_show_config_prints_them(capsys):
    assert pycnn.show_config() is None
    printed = capsys.readouterr().out
    facts = config.get_config()
    assert f"pycnn {pycnn.__version__}" in printed
    assert facts["cpu"]["level"] in printed
    assert np.__version__ in printed
    assert f" {pycnn.get_num_threads()}, CPUs {facts['threads']['cpus']}" in printed
    assert facts["build"]["compiler"] in printed
    assert all(name in printed for name in LEVELS)


def test_without_the_variable_the_best_level_is_chosen():
    assert run_well("-c", SAY_LEVEL, PYCNN_CPU=None).strip() == USABLE[-1]
    assert run_well("-c", SAY_LEVEL, PYCNN_CPU="").strip() == USABLE[-1]


@pytest.mark.parametrize("level", USABLE)
def test_the_variable_chooses_a_level(level):
    assert run_well("-c", SAY_LEVEL, PYCNN_CPU=level).strip() == level
    assert run_well("-c", SAY_LEVEL, PYCNN_CPU=f" {level.upper()} ").strip() == level


@pytest.mark.parametrize("level", [*MISSING, "sse9", "avx2,avx512", "genericc"])
def test_a_level_this_machine_lacks_is_refused(level):
    child = run("-c", "import pycnn", PYCNN_CPU=level)
    assert child.returncode == 1
    last = child.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: PYCNN_CPU={level}: ")
    assert all(name in last for name in USABLE)


SWEEP = """
import numpy as np, pycnn
from pycnn import _reference as reference
rng = np.random.default_rng(3)
for dtype in ("float32", "float64"):
    for channels, n_filters in [(1, 1), (1, 3), (3, 8), (4, 31), (16, 33), (33, 65), (64, 64)]:
        for width in (5, 14, 15, 31, 34):
            x = rng.integers(-9, 10, (6, width, channels)).astype(dtype)
            filters = rng.integers(-9, 10, (n_filters, 3, 3, channels)).astype(dtype)
            bias = rng.integers(-9, 10, n_filters).astype(dtype)
            for kwargs in ({}, {"padding": 1, "stride": 2, "activation": "relu"}):
                actual = pycnn.conv2d(x, filters, bias, **kwargs)
                assert np.array_equal(actual, reference.conv2d(x, filters, bias, **kwargs))
            filters = filters[:1].repeat(channels, 0)[..., :1]
            actual = pycnn.conv2d(x, filters, groups=channels)
            assert np.array_equal(actual, reference.conv2d(x, filters, groups=channels))
            assert np.array_equal(pycnn.relu(x), reference.relu(x))
            x[2, 2, 0] = np.nan
            actual, expected = pycnn.max_pool2d(x, 3, 2), reference.max_pool2d(x, 3, 2)
            assert np.array_equal(actual, expected, equal_nan=True)
print(pycnn.config.get_config()["cpu"]["level"])
"""


@pytest.mark.parametrize("level", USABLE)
def test_every_level_is_exact(level):
    assert run_well("-c", SWEEP, PYCNN_CPU=level).strip() == level


@pytest.fixture
def four_threads():
    """The process's number is 4 during the test."""
    before = pycnn.get_num_threads()
    pycnn.set_num_threads(4)
    yield
    pycnn.set_num_threads(before)


def in_another_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("n", [1, 2, 256, np.int64(3), np.uint8(7)])
def test_set_num_threads(n, four_threads):
    assert pycnn.set_num_threads(n) is None
    assert pycnn.get_num_threads() == n
    assert type(pycnn.get_num_threads()) is int
    assert in_another_thread(pycnn.get_num_threads) == n


@pytest.mark.parametrize("n", [0, -1, 257, 2**31, 2**32 + 1, 2**64, -(2**63)])
def test_a_number_out_of_range_is_refused(n, four_threads):
    rule = rf"n={n} (must be at (least 1|most 256)$|is too large)"
    with pytest.raises(ValueError, match=rf"^set_num_threads: {rule}"):
        pycnn.set_num_threads(n)
    with pytest.raises(ValueError, match=rf"^threads: {rule}"), config.threads(n):
        pass
    assert pycnn.get_num_threads() == 4


@pytest.mark.parametrize("n", [True, np.True_, 2.0, "2", None, [2]])
def test_what_is_no_integer_is_refused(n, four_threads):
    with pytest.raises(TypeError, match=r"^set_num_threads: n=.* expected an integer$"):
        pycnn.set_num_threads(n)
    with pytest.raises(TypeError, match=r"^threads: n=.* expected an integer$"), config.threads(n):
        pass
    assert pycnn.get_num_threads() == 4


def test_threads_blocks_nest(four_threads):
    with config.threads(2):
        assert pycnn.get_num_threads() == 2
        with config.threads(7):
            assert pycnn.get_num_threads() == 7
        assert pycnn.get_num_threads() == 2
        pycnn.set_num_threads(3)
        assert pycnn.get_num_threads() == 2
    assert pycnn.get_num_threads() == 3


def test_threads_block_ends_with_an_exception(four_threads):
    with pytest.raises(KeyError), config.threads(2):
        raise KeyError
    assert pycnn.get_num_threads() == 4


def test_threads_block_holds_for_its_thread(four_threads):
    with config.threads(2):
        assert in_another_thread(pycnn.get_num_threads) == 4


def test_threads_decorates(four_threads):
    @config.threads(2)
    def inside():
        return pycnn.get_num_threads()

    assert inside() == inside() == 2
    assert pycnn.get_num_threads() == 4
