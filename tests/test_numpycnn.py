"""The tutorial's names: its shapes and its values on its own image."""

import numpy as np
import pytest
from comparing import assert_helpful, assert_within

import pycnn
from pycnn import _reference as reference
from pycnn import numpycnn


def tutorial_conv(img, conv_filter):
    """Convolve as the tutorial's loop does, one region of the image at a time."""
    size_y, size_x = conv_filter.shape[1:3]
    rows, columns = img.shape[0] - size_y + 1, img.shape[1] - size_x + 1
    feature_maps = np.zeros((rows, columns, conv_filter.shape[0]))
    for number, current in enumerate(conv_filter):
        for r in range(rows):
            for c in range(columns):
                region = img[r : r + size_y, c : c + size_x]
                feature_maps[r, c, number] = np.sum(region * current)
    return feature_maps


def tutorial_pooling(feature_map, size=2, stride=2):
    """Pool as the tutorial's loop does, without its empty last row and column."""
    rows = range(0, feature_map.shape[0] - size + 1, stride)
    columns = range(0, feature_map.shape[1] - size + 1, stride)
    return np.array(
        [[feature_map[r : r + size, c : c + size].max((0, 1)) for c in columns] for r in rows]
    )


@pytest.fixture
def edges():
    """Return the tutorial's first layer: a vertical and a horizontal edge detector."""
    filters = np.zeros((2, 3, 3))
    filters[0] = [[-1, 0, 1]] * 3
    filters[1] = [[1] * 3, [0] * 3, [-1] * 3]
    return filters


def test_the_three_layers_have_the_tutorials_shapes(chelsea, edges, rng):
    assert chelsea.shape == (300, 451)
    shapes = []
    y = chelsea
    for filters in (edges, rng.random((3, 5, 5, 2)), rng.random((1, 7, 7, 3))):
        for layer in (lambda a, f=filters: numpycnn.conv(a, f), numpycnn.relu, numpycnn.pooling):
            y = layer(y)
            shapes.append(y.shape)
    assert shapes == [
        *[(298, 449, 2)] * 2,
        (149, 224, 2),
        *[(145, 220, 3)] * 2,
        (72, 110, 3),
        *[(66, 104, 1)] * 2,
        (33, 52, 1),
    ]


def test_the_whole_tutorial_has_the_loops_values(chelsea, edges, rng):
    """A quarter of the image, because the loop takes seconds for all of it."""
    ours = theirs = chelsea[:100, 150:270]
    for filters in (edges, rng.random((3, 5, 5, 2)), rng.random((1, 7, 7, 3))):
        ours = numpycnn.pooling(numpycnn.relu(numpycnn.conv(ours, filters)))
        theirs = tutorial_pooling(np.maximum(tutorial_conv(theirs, filters), 0))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_first_layer_on_the_whole_image(chelsea, edges):
    y = numpycnn.conv(chelsea, edges)
    expected = reference.conv2d(chelsea, edges)
    assert_within(y, expected, reference.conv2d_bound(chelsea, edges))
    row = chelsea[10:13, 20:23]
    assert y[10, 20, 0] == pytest.approx(row[:, 2].sum() - row[:, 0].sum(), abs=1e-15)
    assert y[10, 20, 1] == pytest.approx(row[0].sum() - row[2].sum(), abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_conv_is_conv2d(rng, dtype):
    x = (rng.random((12, 13, 3)) * 99).astype(dtype)
    filters = (rng.random((4, 3, 3, 3)) * 99).astype(dtype)
    np.testing.assert_array_equal(numpycnn.conv(x, filters), pycnn.conv2d(x, filters))


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (2, 1), (3, 3), (4, 3)])
def test_pooling_is_max_pool2d(rng, size, stride):
    x = rng.random((12, 13, 3))
    y = numpycnn.pooling(x, size=size, stride=stride)
    np.testing.assert_array_equal(y, pycnn.max_pool2d(x, size, stride))
    np.testing.assert_array_equal(y, tutorial_pooling(x, size, stride))
    assert (y[-1] > 0).all()
    assert (y[:, -1] > 0).all()


def test_relu_is_relu():
    assert numpycnn.relu is pycnn.relu


def test_even_and_oblong_filters_are_fine(rng):
    x = rng.random((9, 9))
    filters = rng.random((2, 2, 4))
    np.testing.assert_allclose(numpycnn.conv(x, filters), tutorial_conv(x, filters), rtol=1e-13)


def test_random_filters():
    assert numpycnn.random_filters(4, 3).shape == (4, 3, 3)
    assert numpycnn.random_filters(4, (3, 5)).shape == (4, 3, 5)
    filters = numpycnn.random_filters(4, 3, 2, seed=1)
    assert filters.shape == (4, 3, 3, 2)
    assert filters.dtype == np.float32
    assert np.ptp(filters) > 0
    np.testing.assert_array_equal(filters, numpycnn.random_filters(4, 3, 2, seed=1))
    assert (filters != numpycnn.random_filters(4, 3, 2, seed=2)).any()
    assert (numpycnn.random_filters(4, 3) != numpycnn.random_filters(4, 3)).any()
    assert numpycnn.conv(np.ones((9, 9, 2), np.float32), filters).shape == (7, 7, 4)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((0, 3), ValueError, ["n", "0"]),
        ((4, -1), ValueError, ["size", "-1"]),
        ((4, 0), ValueError, ["size", "0"]),
        ((4, 3, 0), ValueError, ["channels", "0"]),
        ((2.5, 3), TypeError, ["n", "2.5"]),
        ((4, "3"), TypeError, ["size", "'3'"]),
        ((4, (1, 2, 3)), ValueError, ["size", "(1, 2, 3)"]),
    ],
)
def test_random_filters_refuses(args, error, words):
    with pytest.raises(error) as info:
        numpycnn.random_filters(*args)
    assert_helpful(info, "random_filters", *words)


@pytest.mark.parametrize(
    ("call", "error", "name", "words"),
    [
        (
            lambda: numpycnn.conv(np.ones((9, 9, 3)), np.ones((2, 3, 3, 4))),
            ValueError,
            "conv2d",
            ["3 channels", "expect 4"],
        ),
        (lambda: numpycnn.conv(np.ones((2, 2)), np.ones((2, 3, 3))), ValueError, "conv2d", [3, 2]),
        (
            lambda: numpycnn.pooling(np.ones((9, 9, 3)), size=0),
            ValueError,
            "max_pool2d",
            ["size", 0],
        ),
        (
            lambda: numpycnn.pooling(np.ones((9, 9, 3)), stride=1.5),
            TypeError,
            "max_pool2d",
            ["stride", 1.5],
        ),
    ],
)
def test_errors_are_those_of_the_functions_underneath(call, error, name, words):
    with pytest.raises(error) as info:
        call()
    assert_helpful(info, name, *words)
