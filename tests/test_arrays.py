"""Where a result goes: into a new array, or into `out` where no input lies."""

import gc
import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from children import run_well
from hypothesis import given
from hypothesis import strategies as st

import pycnn
from pycnn import _activation, _arrays, _dense, _pool

FLOAT = np.dtype(np.float32)


@st.composite
def views(draw, memory):
    """Draw a part of `memory`, with gaps, backwards, with zero strides or empty."""
    start, stop = draw(st.tuples(*[st.integers(0, len(memory))] * 2))
    line = memory[start : stop : draw(st.sampled_from([-3, -1, 1, 2]))]
    n = draw(st.integers(1, 4))
    image = line[: len(line) // n * n].reshape(n, -1)
    wide = np.broadcast_to(line, (3, len(line)))
    return draw(st.sampled_from([line, image, image.T, image[:, ::-1], wide]))


@given(st.data())
def test_out_is_taken_where_numpy_finds_no_memory_in_common(data):
    memory = np.zeros(40, FLOAT)
    inputs = tuple(data.draw(st.lists(views(memory), max_size=3)))
    start = data.draw(st.integers(0, 39))
    out = memory[start : data.draw(st.integers(start + 1, 40))]
    expected = None if any(np.may_share_memory(out, x) for x in inputs) else out
    assert (
        _arrays.result_for(
            out,
            out.shape,
            FLOAT,
            (None, *inputs, [1.0]),
        )
        is expected
    )


def test_an_elementwise_result_may_have_all_of_its_input_s_memory():
    memory = np.zeros(10, FLOAT)
    image = memory[1:].reshape(3, 3)
    for x, out, taken in [
        (memory, memory, True),
        (image, memory[1:].reshape(3, 3), True),
        (image, image.reshape(9), True),
        (memory[1:], memory[:-1], False),
        (memory[:-1], memory[1:], False),
        (memory[:3], memory[:5], False),
        (memory[::-1], memory, False),
        (image.T, image, False),
        (memory.view(np.int32), memory, False),
        (memory.view(FLOAT.newbyteorder()), memory, False),
    ]:
        assert (_arrays.result_for(out, out.shape, FLOAT, (x,), True) is out) == taken
        assert _arrays.result_for(out, out.shape, FLOAT, (x,)) is None


@pytest.mark.parametrize(
    "out",
    [
        [0.0] * 6,
        np.float32(0),
        np.zeros(6),
        np.zeros(7, FLOAT),
        np.zeros((2, 3), FLOAT),
        np.zeros(12, FLOAT)[::2],
        np.zeros(6, ">f4"),
        np.zeros(25, np.uint8)[1:].view(FLOAT),
        np.frombuffer(bytes(24), FLOAT),
        np.ma.zeros(6, FLOAT),
        np.zeros(6, FLOAT).view(np.recarray),
    ],
)
def test_any_other_out_is_for_the_checks(out):
    assert _arrays.result_for(out, (6,), FLOAT, ()) is None


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3, 4), (1,) * 32])
@pytest.mark.parametrize("code", "?bBhHiIlLqQefd")
def test_a_new_array_has_the_shape_and_dtype_in_native_bytes(shape, code):
    for dtype in (np.dtype(code), np.dtype(code).newbyteorder()):
        new = _arrays.result_for(None, shape, dtype, ())
        assert type(new) is np.ndarray
        assert (new.shape, new.dtype.char) == (shape, code)
        assert new.dtype.isnative
        assert new.flags.carray


LARGE = 2**16  # elements, of a byte at least: such arrays are NumPy's memory from a line on


@pytest.mark.parametrize("shape", [(LARGE,), (3, 5, 7, 701), (1, LARGE + 7, 1)])
@pytest.mark.parametrize("code", "?bBhHiIlLqQefd")
def test_a_large_new_array_begins_a_cache_line(shape, code):
    new = [_arrays.result_for(None, shape, np.dtype(code), ()) for _ in range(8)]
    for i, array in enumerate(new):
        assert (array.shape, array.dtype.char) == (shape, code)
        assert array.flags.carray
        assert array.flags.owndata
        assert array.ctypes.data % 64 == 0
        array[...] = i % 2
    for i, array in enumerate(new):  # no two have memory in common
        assert (array == i % 2).all()


def test_a_large_elementwise_result_begins_a_line_where_its_input_does():
    x = _arrays.result_for(None, (LARGE,), FLOAT, ())
    assert _arrays.result_for(None, (LARGE,), FLOAT, (x,), True).ctypes.data % 64 == 0
    assert _arrays.result_for(None, (LARGE,), FLOAT, (x[1:],), True).shape == (LARGE,)


def test_a_large_new_array_can_be_resized():
    array = _arrays.result_for(None, (LARGE,), FLOAT, ())
    array[:] = np.arange(LARGE)
    for size in (LARGE + 1, 50 * LARGE, LARGE, 7, 3 * LARGE, 0, LARGE):
        kept = array[: min(size, array.size)].copy()
        array.resize((size,), refcheck=False)
        np.testing.assert_array_equal(array[: kept.size], kept)
        assert array.ctypes.data % 64 == 0
    assert np.empty(LARGE).flags.owndata  # from NumPy's own handler, which is in use again


def new(n_bytes):
    return _arrays.result_for(None, (n_bytes,), np.dtype(np.uint8), ())


def test_the_memory_of_a_freed_result_serves_the_next_one():
    places = {new(2**20 + 999).ctypes.data for _ in range(20)}
    assert len(places) == 1
    held = [new(2**20 + 999) for _ in range(3)]
    assert places < {array.ctypes.data for array in held}


def test_results_have_their_own_memory_where_that_of_freed_ones_does_not_suffice():
    random = np.random.default_rng(0)
    held = {}
    for number in range(600):
        if len(held) > 40:
            wanted = random.choice(list(held))
            array = held.pop(wanted)
            assert (array == wanted % 251).all()
            del array
        held[number] = new(int(random.choice([LARGE, LARGE + 99, 2**18, 2**20, 3 * 2**20, 2**24])))
        assert held[number].ctypes.data % 64 == 0
        held[number][...] = number % 251
    assert sum(array.nbytes for array in held.values()) > 32 * 2**20
    for number, array in held.items():
        assert (array == number % 251).all()


FORK = """
import os
import numpy as np
from pycnn import _arrays

def new(fill):
    array = _arrays.result_for(None, (2**20,), np.dtype(np.uint8), ())
    before = set(np.unique(array))
    array[...] = fill
    return array, before

held, _ = new(1)
freed, _ = new(2)
del freed
child = os.fork()
array, before = new(3)
assert before == {0}, f"not pages of zeros: {before}"
assert (held == 1).all() and (array == 3).all()
if child != 0:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_fork_copies_nothing_of_freed_results():
    run_well("-c", FORK)


def test_results_of_threads_that_free_and_ask_have_no_memory_in_common():
    def work(number):
        random = np.random.default_rng(number)
        for size in random.choice([LARGE, LARGE + 99, 4 * LARGE], 300):
            array = new(size)
            array[...] = number
            if (array != number).any():
                return "another thread wrote into it"
            if random.random() < 0.1:
                array.resize((size // 2,), refcheck=False)
        return None

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(8))) == {None}


@pytest.mark.parametrize("shape", [(2**62, 2), (2**31, 2**31, 2), (2**63 - 1,), (2**62 - 64,)])
def test_a_new_array_that_is_too_large_is_refused(shape):
    with pytest.raises((ValueError, MemoryError)):
        _arrays.result_for(None, shape, FLOAT, ())


@pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x.view(np.uint8)])
def test_an_array_that_was_changed_since_it_was_checked_is_refused(change):
    """Another thread may have done so; a call must not read past its end."""
    image, matrix, maxima = np.ones((4, 4), FLOAT), np.ones((4, 3), FLOAT), np.empty((2, 2), FLOAT)
    plan = _pool.PoolPlan(
        FLOAT, (1, 4, 4, 1), (2, 2), (2, 2), (2, 2), (0, 0), (0, 0), (1, 1), False, False
    )
    calls = [
        lambda: _pool.pool2d(plan, change(image), maxima),
        lambda: _activation.relu(change(image), np.empty((4, 4), FLOAT)),
        lambda: _activation.leaky_relu(change(image), 0.5, np.empty((4, 4), FLOAT)),
        lambda: _dense.dense(change(image), matrix, None, 3, 0, 0.0, np.empty((4, 3), FLOAT)),
        lambda: _dense.dense(image, change(matrix), None, 3, 0, 0.0, np.empty((4, 3), FLOAT)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="were checked"):
            call()


@pytest.mark.parametrize("code", "ilfd")
def test_views_of_any_order_are_copied_to_pixels_and_back(rng, code):
    """Those of integers bit for bit, though their numbers are moved as floats."""
    sizes = [1, 2, 3, 4, 5, 8, 9, 17]
    for order in 40 * list(itertools.permutations(range(4))):
        shape = rng.choice(sizes, 4)
        if code in "il":
            x = rng.integers(np.iinfo(code).min, np.iinfo(code).max, shape, code)
        else:
            x = rng.standard_normal(shape).astype(code)
        back, end = np.argsort(order), rng.choice([1, -1])
        view = x.transpose(order).copy()[::end, ..., ::end].transpose(back)
        expected = np.array(view, order="C")
        np.testing.assert_array_equal(pycnn.max_pool2d(view, 1), expected)
        host = np.full(np.array(x.shape)[list(order)] + [2, 1, 0, 0], 7, code)
        place = host[1:-1, 1:, :, ::end]
        out = place.transpose(back)
        assert pycnn.max_pool2d(expected, 1, out=out) is out
        np.testing.assert_array_equal(out, expected)
        place[...] = 7
        assert np.all(host == 7)


@pytest.mark.parametrize(
    "change",
    [
        lambda out: out[:, :2],
        lambda out: np.zeros((64, 64, 64), FLOAT).T,
        lambda out: out.view(np.int32),
        lambda out: np.broadcast_to(out, out.shape),
    ],
    ids=["smaller", "larger", "dtype", "read-only"],
)
def test_an_out_that_was_changed_since_it_was_checked_is_numpys(change):
    """Another thread may have done so; nothing is read or written outside."""
    result = np.arange(60, dtype=FLOAT).reshape(3, 4, 5)
    mine, numpys = (change(np.zeros((5, 3, 4), FLOAT).transpose(1, 2, 0)) for _ in range(2))
    try:
        numpys[...] = result
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            _arrays.copy_out(result, mine)
    else:
        _arrays.copy_out(result, mine)
    np.testing.assert_array_equal(mine, numpys)


def test_an_array_that_changes_while_it_is_copied_ends_no_process():
    """Python may collect garbage when memory is asked for, and run anything."""
    run_well(__file__)


def shrink_in_every_collection():
    pycnn.max_pool2d(np.zeros((8, 8, 8)), 1)
    gc.set_threshold(1)
    for k in itertools.count(1):
        x = np.zeros((64, 64, 512), FLOAT, order="F")
        collections = 0

        def collected(phase, info, x=x, k=k):
            nonlocal collections
            collections += phase == "start"
            if collections == k:
                x.resize((64, 64, 1), refcheck=False)

        gc.callbacks.append(collected)
        try:
            pycnn.max_pool2d(x, 1)
        except ValueError as error:
            assert "changed while" in str(error) or "were checked" in str(error), error
        finally:
            gc.callbacks.remove(collected)
        if collections < k:
            break


if __name__ == "__main__":
    shrink_in_every_collection()
