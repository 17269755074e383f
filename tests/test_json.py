"""JSON that nobody vouches for."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycnn import _json
from pycnn._disk import BadFile

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(), VALUES))
def test_round_trip(value):
    raw = _json.dump(value)
    assert _json.parse(raw) == value
    assert _json.dump(_json.parse(raw)) == raw


def nested(depth, left=b"[", right=b"]"):
    return b'{"a":' + left * (depth - 1) + right * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b'{"a":1}x', "damaged"),
        (b'{"a":"\xff"}', "damaged"),
        (b'{"a":' + b"1" * 5000 + b"}", "damaged"),
        (b"[]", "is a Python list; expected an object"),
        (b"1", "is a Python int"),
        (b'{"a":NaN}', "number NaN; expected finite"),
        (b'{"a":-Infinity}', "number -Infinity"),
        (b'{"a":1e999}', "number 1e999"),
        (b'{"a":1,"a":1}', "key 'a' twice"),
        (b'{"b":[{"a":1,"\\u0061":2}]}', "key 'a' twice"),
        (nested(65), "deeper than 64"),
        (nested(100_000), "deeper than 64"),
        (b"[" * 500_000, "deeper than 64"),
        (b'{"a":' * 150_000, "deeper than 64"),
        (b'{"a":"' + b" " * 2**20 + b'"}', "has 1048584 bytes; expected at most 1048576"),
        # What a careless pattern for strings would take quadratic time for.
        (b'{"' + b'\\"' * 500_000, "damaged"),
        (b'"' * 1_000_001, "damaged"),
        (b'{"a":1,' + b",".join(b'"%d":1' % i for i in range(80_000)) + b',"a":1}', "'a' twice"),
    ],
    ids=lambda raw: ascii(raw[:20]),
)
def test_what_is_refused(raw, words):
    with pytest.raises(BadFile, match=words):
        _json.parse(raw)


def test_the_depth_that_is_allowed_does_not_depend_on_the_interpreter():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)  # json would run into the end of the stack
    try:
        with pytest.raises(BadFile, match="deeper than 64"):
            _json.parse(b"[" * 1_000_000)
    finally:
        sys.setrecursionlimit(limit)
    assert _json.parse(nested(64))
    assert _json.parse(b'{"a":"' + b"[" * 100 + b'\\""}') == {"a": "[" * 100 + '"'}


def test_what_json_cannot_hold():
    itself = []
    itself.append(itself)
    deep = value = {}
    for _ in range(100_000):
        value["a"] = {}
        value = value["a"]
    for value, words in [
        (float("nan"), "cannot be written as JSON"),
        (float("inf"), "cannot be written as JSON"),
        (itself, "cannot be written as JSON|deeper than"),
        (deep, "deeper than 64"),
        ("x" * 2**20, "at most 1048576"),
        ({1: 1, "1": 2}, "key '1' twice"),
    ]:
        with pytest.raises(BadFile, match=words):
            _json.dump({"key": value})
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        _json.dump({"key": {1}})
