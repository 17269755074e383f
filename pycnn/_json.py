"""JSON from files that nobody vouches for: one meaning, finite numbers, bounded size and depth."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from pycnn._disk import BadFile

__all__ = ["MAX_BYTES", "dump", "parse"]

# JSON grows some thirty times when it becomes Python objects.
MAX_BYTES = 2**20

# The json module recurses, and how deep it can depends on who calls.
MAX_DEPTH = 64

_TOO_DEEP = f"its JSON is nested deeper than {MAX_DEPTH}"

# A string, even one without an end, or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_STEP = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def dump(value: dict[str, Any]) -> bytes:
    """Return what `parse` reads; TypeError or BadFile when JSON cannot hold the value."""
    try:
        raw = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise BadFile(_TOO_DEEP) from None
    except ValueError as error:  # NaN, infinity, a list that holds itself
        raise BadFile(f"it cannot be written as JSON: {error}") from error
    parse(raw)  # keys 1 and "1" are the same in JSON
    return raw


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that `raw` is, or raise BadFile."""
    if len(raw) > MAX_BYTES:
        raise BadFile(f"its JSON has {len(raw)} bytes; expected at most {MAX_BYTES}")
    depth = 0
    for token in _TOKEN.finditer(raw):
        depth += _STEP.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise BadFile(_TOO_DEEP)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except BadFile:
        raise
    except ValueError as error:  # no UTF-8, no JSON, an integer of 5000 digits
        raise BadFile(f"its JSON is damaged: {error}") from error
    if not isinstance(value, dict):
        raise BadFile(f"its JSON is a Python {type(value).__name__}; expected an object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise BadFile(f"its JSON has the key {key[:60]!r} twice in one object")
    return result


def _finite(text: str) -> float:
    value = float(text)  # 1e999 is infinite, too
    if not math.isfinite(value):
        raise BadFile(f"its JSON holds the number {text[:60]}; expected finite ones")
    return value
