"""Comparisons that know the promises of the package: error bounds, equal bits, shared sentences."""

import numpy as np


def assert_within(actual, expected, bound):
    """Assert ``|actual - expected| <= bound``, and NaN and infinity in exactly the same places.

    Nothing is added to the bound and there is no other tolerance.
    """
    assert isinstance(actual, np.ndarray), type(actual)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    wide = actual.astype(expected.dtype)
    np.testing.assert_array_equal(np.isnan(wide), np.isnan(expected), "NaN in other places")
    endless = np.isinf(expected)
    np.testing.assert_array_equal(np.isinf(wide), endless, "infinity in other places")
    np.testing.assert_array_equal(wide[endless], expected[endless], "infinity of the other sign")
    finite = np.isfinite(expected)
    error = np.abs(wide[finite] - expected[finite])
    allowed = np.broadcast_to(bound, expected.shape)[finite]
    wrong = ~(error <= allowed)
    if wrong.any():
        worst = int(np.argmax(np.where(wrong, error - allowed, -1)))
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} outputs miss the bound; the worst is off by "
            f"{error[worst]:.6g} where {allowed[worst]:.6g} is allowed: "
            f"{wide[finite][worst]!r} instead of {expected[finite][worst]!r}"
        )


def assert_same_bits(actual, expected, *, any_nan=False):
    """Assert the same shape, dtype and bytes: also the same NaN, or any, and -0 is not 0."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    assert actual.dtype == expected.dtype, (actual.dtype, expected.dtype)
    if any_nan:
        actual, expected = (np.where(np.isnan(a), np.nan, a) for a in (actual, expected))
    bits = np.dtype(f"u{actual.dtype.itemsize}")
    np.testing.assert_array_equal(
        np.ascontiguousarray(actual).view(bits), np.ascontiguousarray(expected).view(bits)
    )


def activated_bound(expected_sum, bound, activation, dtype):
    """Carry the bound of a sum through an activation computed in `dtype`.

    relu does not round and never moves two numbers apart. leaky_relu rounds its slope and its
    product. The smooth ones add the error of their own few operations: 4 units in the last place.
    """
    info = np.finfo(dtype)
    ulp, tiny = expected_sum.dtype.type(info.eps), info.smallest_subnormal
    x = expected_sum
    if activation in (None, "relu"):
        return bound
    if activation == "leaky_relu":
        return bound + np.where(x < 0, ulp * np.abs(x) * 0.01 + tiny, 0)
    if activation == "sigmoid":
        value = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
        return np.fmin(bound / 4 + 4 * ulp * value + 4 * tiny, 1)
    if activation == "softmax":
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        value = powers / powers.sum(axis=-1, keepdims=True)
        # The difference d from the largest is rounded once: exp(d) moves by |d| u for that alone.
        spread = np.clip(x.max(axis=-1, keepdims=True) - x, 0, 800)
        own = (4 + x.shape[-1] + spread + spread.max(axis=-1, keepdims=True)) * ulp
        shaken = np.expm1(2 * bound.max(axis=-1, keepdims=True))
        return np.fmin(value * (shaken + own) + 4 * tiny, 1)  # never wrong by more than 1
    raise ValueError(activation)


def assert_helpful(error, function, *words):
    """Assert that an error's sentence names the function and holds every one of `words`."""
    sentence = str(error.value if hasattr(error, "value") else error)
    assert sentence.startswith(f"{function}: "), sentence
    for word in words:
        assert str(word) in sentence, (word, sentence)
