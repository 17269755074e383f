"""What the annotations say is what happens; .ci/types lets mypy read the same calls."""

import inspect
from typing import Any, get_args

import pytest
import typed_calls

import pycnn
from pycnn import _typing

FUNCTIONS = [
    f for f in vars(typed_calls).values() if getattr(f, "__module__", "") == typed_calls.__name__
]


@pytest.mark.parametrize("calls", FUNCTIONS, ids=lambda f: f.__name__)
def test_results_have_the_dtype_that_type_checkers_see(monkeypatch, calls):
    seen = []

    def compare(value, declared):
        last = get_args(declared)[-1]  # from NumPy 2.5 on the scalar, before it the dtype of one
        (scalar,) = get_args(last) or (last,)
        if scalar is not Any:
            assert value.dtype == scalar, f"call {len(seen) + 1} of {calls.__name__}"
        seen.append(value)

    monkeypatch.setattr(typed_calls, "assert_type", compare)
    calls()
    assert seen


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (pycnn.conv2d, _typing.ConvOptions),
        (pycnn.conv_relu_pool, _typing.StageOptions),
    ],
)
def test_the_overloads_have_all_keywords(function, options):
    parameters = inspect.signature(function).parameters.values()
    keywords = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert set(keywords) == options.__optional_keys__
    # The annotation of one is the text of the other, but for its quotes.
    source = inspect.getsource(options) + inspect.getsource(_typing.ConvOptions)
    for name, annotation in keywords.items():
        text = annotation.replace("'", '"')
        assert f"    {name}: {text}\n" in source
