"""Bad input never ends in a crash, a hang or a wrong answer.

Run as a script it is the child process: it makes up calls from arguments that no honest caller
gives. Each must end with the oracle's answer, or with a ValueError, TypeError or MemoryError whose
sentence starts with the function's name.
"""

import faulthandler
import json
import os
import random
import resource
import sys
import time
import warnings

import numpy as np
import pytest
from children import run_well
from comparing import assert_within

import pycnn
from pycnn import _reference as reference

SECONDS_A_CALL = 20
MEMORY = 2 * 2**30

BIG = [2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, 2**200]
SMALL = [0, 1, 2, 3, 4, 7]
NOT_INTEGERS = [True, 1.0, 2.5, float("nan"), None, "2", b"2", 1j, [], {}, (1, 2, 3), object()]


def a_number(pick):
    """Return mostly a small whole number, at times a huge, negative or senseless one."""
    kind = pick.random()
    if kind < 0.6:
        return pick.choice(SMALL)
    if kind < 0.75:
        return pick.choice(BIG)
    if kind < 0.85:
        return -pick.choice(SMALL + BIG)
    if kind < 0.9:
        return pick.choice([np.int8(2), np.uint64(3), np.int64(-1), np.array(2), np.float32(2)])
    return pick.choice(NOT_INTEGERS)


def a_window(pick):
    """Return a number, a pair, or nested pairs of them."""
    kind = pick.random()
    if kind < 0.5:
        return a_number(pick)
    if kind < 0.85:
        return (a_number(pick), a_number(pick))
    return ((a_number(pick), a_number(pick)), (a_number(pick), a_number(pick)))


def a_padding(pick):
    if pick.random() < 0.4:
        return pick.choice(["valid", "same", "full", "valid ", "", "wrap"])
    return a_window(pick)


DTYPES = [
    *["f4"] * 12,
    *["f8"] * 4,
    *["f2", ">f4", "i1", "u1", "i4", "i8", "u8", "?"],
    *["g", "c8", "c16", "O", "U1", "S1", "M8[s]", "m8[s]", "V4"],
    [("a", "f4"), ("b", "f8")],
]


def an_array(pick, ndim=None):
    """Return an array of 0 to 6 dimensions, zero-size ones, and other things in its place."""
    kind = pick.random()
    if kind < 0.04:
        return pick.choice([None, 1, "image", [[1, 2], [3]], [], object(), {1: 2}, range(4), b"ab"])
    if kind < 0.08:  # enormous, without memory behind it
        shape = pick.choice([(2**30, 2**30), (2**20, 2**20, 3), (2**60, 1), (1, 2**40, 2**20, 1)])
        return np.broadcast_to(np.float32(1), shape)
    if ndim is None or pick.random() < 0.1:
        ndim = pick.randrange(7)
    shape = [pick.choice([1, 2, 3, 3, 4, 5, 6, 9, 9]) for _ in range(ndim)]
    if pick.random() < 0.1 and ndim:
        shape[pick.randrange(ndim)] = 0
    dtype = np.dtype(pick.choice(DTYPES))
    if dtype.kind in "biufg":
        values = np.random.default_rng(pick.randrange(2**32)).integers(0, 9, shape).astype(dtype)
    else:
        values = np.zeros(shape, dtype)
    if pick.random() < 0.06:
        return np.ma.masked_array(values)
    if pick.random() < 0.06 and ndim == 2:
        return np.asmatrix(values) if dtype.names is None else values
    return values


def filters_for(pick, x):
    """Return filters that fit `x` most of the time."""
    if pick.random() < 0.3 or not isinstance(x, np.ndarray) or x.ndim not in (2, 3, 4):
        return an_array(pick, pick.choice([3, 4]))
    shape = [pick.choice([1, 2, 3, 5]), pick.choice([1, 2, 3]), pick.choice([1, 2, 3])]
    if x.ndim > 2:
        shape.append(x.shape[-1] if x.shape[-1] < 100 else 1)
    return np.ones(shape, pick.choice(["f4", "f4", "f8", "i2"]))


def some(pick, chance=0.5, **keywords):
    """Draw a few of the keywords."""
    return {name: draw(pick) for name, draw in keywords.items() if pick.random() < chance}


def an_out(pick):
    out = pick.choice([1.0, [1.0], "out", None, an_array(pick, 3)])
    return np.ones((3, 3, 2), "f4") if out is None else out


def a_choice(*values):
    return lambda pick: pick.choice([*values, None, "", "tanh", 3, True, b"relu", [], np.nan])


ACTIVATION = a_choice("relu", "leaky_relu", "sigmoid", "softmax")


def a_call(pick):
    """Return (name, positional arguments, keywords)."""
    name = pick.choice(
        ["conv2d"] * 6
        + ["max_pool2d", "avg_pool2d"] * 3
        + ["dense", "softmax", "leaky_relu", "relu", "sigmoid"]
        + ["global_max_pool2d", "global_avg_pool2d", "random_filters"]
    )
    if name == "random_filters":
        kwargs = some(pick, channels=a_number, seed=lambda p: p.choice([0, 5, None]))
        return name, (a_number(pick), a_window(pick)), kwargs
    x = an_array(pick, pick.choice([2, 3, 3, 4]))
    if name == "conv2d":
        filters = filters_for(pick, x)
        kwargs = some(pick, stride=a_window, padding=a_padding, dilation=a_window)
        precision = a_choice("highest", "high", "medium")
        kwargs |= some(
            pick,
            0.15,
            groups=a_number,
            bias=lambda p: an_array(p, 1),
            activation=ACTIVATION,
            precision=precision,
            out=an_out,
        )
        return name, (x, filters), kwargs
    if name in ("max_pool2d", "avg_pool2d"):
        kwargs = some(pick, pool_size=a_window, stride=a_window, padding=a_padding)
        flag = a_choice(False)
        other = {"dilation": a_window} if name == "max_pool2d" else {"count_include_pad": flag}
        return name, (x,), kwargs | some(pick, 0.2, ceil_mode=flag, out=an_out, **other)
    if name == "dense":
        kwargs = some(pick, 0.2, bias=lambda p: an_array(p, 1), activation=ACTIVATION, out=an_out)
        return name, (an_array(pick, 2), an_array(pick, 2)), kwargs
    if name == "softmax":
        return name, (x,), some(pick, axis=a_number) | some(pick, 0.1, out=an_out)
    if name == "leaky_relu":
        return name, (x,), some(pick, negative_slope=a_number) | some(pick, 0.1, out=an_out)
    if name in ("relu", "sigmoid"):
        return name, (x,), some(pick, 0.2, out=an_out)
    return name, (x,), some(pick, 0.3, keepdims=a_choice(False, np.True_))


def small_enough(name, args, kwargs):
    """Say whether the oracle, which visits every tap, would come to an end."""
    window = kwargs.get("pool_size", 2) if name.endswith("pool2d") else 1
    return np.max(window) < 100 and all(np.size(a) < 10_000 for a in args)


def judge(name, args, kwargs):
    """Make one call; return how it ended, or raise AssertionError."""
    began = time.monotonic()
    try:
        result = getattr(pycnn, name)(*args, **kwargs)
    except (ValueError, TypeError, MemoryError) as error:
        sentence = str(error)
        assert sentence.startswith(f"{name}: "), f"{type(error).__name__}: {sentence!r}"
        assert len(sentence) > len(name) + 12, sentence
        return type(error).__name__
    assert time.monotonic() - began < SECONDS_A_CALL / 2, "took too long"
    assert isinstance(result, np.ndarray)
    if name == "random_filters":
        assert result.dtype == np.float32
        return "random"
    if not small_enough(name, args, kwargs):
        return "unchecked"
    kwargs = {k: v for k, v in kwargs.items() if k not in ("out", "precision")}
    if kwargs.get("activation") in ("sigmoid", "softmax") or name in ("sigmoid", "softmax"):
        bound = 1e-5
    elif kwargs.get("precision", "highest") != "highest":
        bound = np.inf
    else:
        bound = 0 if name in ("relu", "max_pool2d", "global_max_pool2d") else 1e-3
    expected = getattr(reference, name)(*args, **kwargs)
    if expected.dtype.kind == "f":
        assert_within(result, expected, bound)
    else:
        np.testing.assert_array_equal(result, expected)
    return "right"


def show(value):
    if isinstance(value, np.ndarray):
        return f"<{type(value).__name__} {value.dtype} {value.shape}>"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(show, value))})"
    return repr(value)


def limit_memory():
    """Let this process have MEMORY bytes, unless a sanitizer, which reserves more, counts them."""
    if "ASAN_OPTIONS" not in os.environ:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))


def child(seed, n_calls):
    """Make `n_calls` calls; a hang is shown with the call that caused it, and ends the process."""
    limit_memory()
    warnings.simplefilter("ignore")
    ends = {}
    for number in range(n_calls):
        pick = random.Random(f"{seed} {number}")
        name, args, kwargs = a_call(pick)
        text = f"{name}({', '.join(map(show, args))}, "
        text += ", ".join(f"{k}={show(v)}" for k, v in kwargs.items()) + ")"
        print(f"call {number}: {text}", file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(SECONDS_A_CALL, exit=True)
        try:
            end = judge(name, args, kwargs)
        except BaseException as error:
            error.add_note(f"seed {seed}, call {number}: {text}")
            raise
        faulthandler.cancel_dump_traceback_later()
        ends[end] = ends.get(end, 0) + 1
    print(json.dumps(ends))


@pytest.mark.parametrize("seed", range(4))
def test_generated_calls(seed, hostile_calls):
    counts = json.loads(run_well(__file__, str(seed), str(hostile_calls), timeout=600))
    assert sum(counts.values()) == hostile_calls
    # The calls are neither all refused nor all harmless.
    assert counts["right"] > hostile_calls / 20
    assert counts["ValueError"] > hostile_calls / 20
    assert counts["TypeError"] > hostile_calls / 20
    assert counts["MemoryError"] > 0


HUGE_GEOMETRY = [
    "conv2d(np.ones((3, 3), 'f4'), np.ones((1, 2, 2), 'f4'), padding=2**30, stride=1)",
    "conv2d(np.ones((3, 3), 'f4'), np.ones((1, 2, 2), 'f4'), padding=(2**40, 0))",
    "conv2d(np.ones((3, 3), 'f4'), np.ones((1, 2, 2), 'f4'), padding=((0, 2**60), (0, 0)))",
    "conv2d(np.broadcast_to(np.float32(1), (2**30, 2**30)), np.ones((1, 3, 3), 'f4'))",
    "conv2d(np.ones((3, 3), 'f4'), np.ones((1, 2, 2), 'f4'), dilation=2**61, padding=2**62)",
    "conv2d(np.ones((3, 3), 'f4'), np.ones((1, 2, 2), 'f4'), dilation=2**61, padding='same')",
    "conv2d(np.ones((1, 1, 8)), np.ones((8, 3, 3, 1)), groups=8, padding=2**61, stride=2**62)",
    "max_pool2d(np.ones((3, 3), 'f4'), 2**40, stride=1, dilation=2, padding=2**41)",
    "max_pool2d(np.ones((3, 3), 'f4'), 2, stride=1, dilation=2**40, padding=2**40)",
    "max_pool2d(np.ones((3, 3), 'f4'), (2**62, 1), stride=1, padding=((2**62 - 1, 0), (0, 0)))",
    "max_pool2d(np.ones((3, 3), 'f4'), (2**40, 2), stride=(1, 2), padding=(2**40 - 1, 0))",
    "avg_pool2d(np.ones((3, 3), 'f4'), 2**40, stride=1, padding=2**39)",
    "avg_pool2d(np.ones((2, 2), 'f4'), 2**40, stride=2**38, padding=2**39)",
    "avg_pool2d(np.ones((2, 2), 'f4'), 2**31, 2**31, padding=2**30, count_include_pad=True)",
    "random_filters(2**31, 2**15)",
    "random_filters(2**40, 2**40)",
    "dense(np.broadcast_to(np.float32(1), (2**40, 1)), np.ones((1, 2**24), 'f4'))",
    "dense(np.broadcast_to(np.float32(1), (2**31, 1)), np.ones((1, 9), 'f4'))",
    "relu(np.broadcast_to(np.float32(1), (2**40, 2**20)))",
    "leaky_relu(np.broadcast_to(np.int8(1), (2**62,)))",
    "sigmoid(np.broadcast_to(np.float32(1), (2**40,)))",
    "sigmoid(np.broadcast_to(np.int8(1), (2**62,)))",
    "softmax(np.broadcast_to(np.int8(1), (2**40,)))",
    "global_avg_pool2d(np.broadcast_to(np.float32(1), (2**40, 2**20)))",
]


@pytest.mark.parametrize("call", HUGE_GEOMETRY)
def test_huge_geometry_is_quickly_refused_or_computed(call):
    name = call.partition("(")[0]
    script = f"""
import faulthandler
import numpy as np, pycnn, test_hostile
faulthandler.dump_traceback_later({SECONDS_A_CALL}, exit=True)
test_hostile.limit_memory()
try:
    print(pycnn.{call}.shape)
except (ValueError, MemoryError) as error:
    assert str(error).startswith("{name}: "), repr(error)
"""
    run_well("-c", script)


if __name__ == "__main__":
    child(int(sys.argv[1]), int(sys.argv[2]))
