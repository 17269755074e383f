"""The scikit-learn transformer: scikit-learn's own checks, and what it promises beside them."""

import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from children import run_well
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import pycnn
from pycnn import _reference
from pycnn.sklearn import ConvFeatures, learn_filters

ESTIMATORS = [
    ConvFeatures(),
    ConvFeatures("random", kernel_size=2, activation="sigmoid", pool="avg", pool_grid=2),
    ConvFeatures(np.ones((2, 1, 1)), bias=[0.5, -0.5]),
]


@pytest.fixture(scope="module")
def digits():
    """Return scikit-learn's 1797 digits of 8 x 8, float32 from 0 to 1, and their labels."""
    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype(np.float32), labels


@pytest.fixture(scope="module")
def fitted(digits):
    return ConvFeatures(n_filters=12, kernel_size=3, pool_grid=2, random_state=0).fit(digits[0])


# Tiny tables of 3 or 10 features: they have few patches, and are no square images.
@pytest.mark.filterwarnings("ignore:ConvFeatures. X has:UserWarning")
@pytest.mark.filterwarnings("ignore:learn_filters. :UserWarning")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# ---- what is computed ----------------------------------------------------------------------------


@given(st.data())
def test_features_are_those_of_the_reference(data):
    """Given filters: convolution, bias, activation and cells that cover the whole map."""
    draw = data.draw
    height, width, channels = (draw(st.integers(1, n)) for n in (12, 12, 3))
    window = draw(st.integers(1, height)), draw(st.integers(1, width))
    grid = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    pool = draw(st.sampled_from(["max", "avg"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    images = rng.integers(-4, 5, (3, height, width, channels)).astype(np.float32)
    filters = rng.integers(-3, 4, (2, *window, channels))
    bias = rng.integers(-9, 9, 2)

    features = ConvFeatures(filters, bias=bias, pool=pool, pool_grid=grid).fit(images)
    maps = _reference.conv2d(images.astype(np.float64), filters.astype(np.float64), bias).clip(0)
    _, rows, columns, n_filters = maps.shape
    expected = []
    edges = []
    for pixels, cells in ((rows, grid[0]), (columns, grid[1])):
        stride = pixels // min(cells, pixels)
        starts = [i * stride for i in range(min(cells, pixels))]
        size = pixels - starts[-1]
        assert all(a + size >= b for a, b in pairwise(starts))  # no pixel is left out
        edges.append([slice(start, start + size) for start in starts])
    for vertical in edges[0]:
        for horizontal in edges[1]:
            cell = maps[:, vertical, horizontal]
            expected.append(cell.max((1, 2)) if pool == "max" else cell.mean((1, 2)))
    result = features.transform(images)
    assert features.grid_shape_ == (len(edges[0]), len(edges[1]), n_filters)
    assert result.shape == (3, len(features.get_feature_names_out()))
    np.testing.assert_allclose(result, np.concatenate(expected, axis=1), rtol=1e-6)
    if pool == "max":
        np.testing.assert_array_equal(result, np.concatenate(expected, axis=1))


def test_learned_filters_are_whitening_and_a_soft_threshold(digits):
    """One convolution does what the paper does in three steps, up to rounding."""
    images = digits[0].reshape(-1, 8, 8).astype(np.float64)
    filters, bias = learn_filters(images, 20, 3, n_patches=3000, random_state=0)
    # The whitened space is spanned by the filters: each is whiten @ c with c of length 1.
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    n = len(images), 6, 6
    rng = np.random.RandomState(0)
    places = tuple(rng.randint(0, size, 3000) for size in n)
    patches = np.unique(windows[places].reshape(3000, 9), axis=0)
    mean = patches.mean(0)
    variances, axes = np.linalg.eigh(np.cov(patches.T, bias=True))
    scale = np.sqrt(variances + 0.5 * variances.mean())
    whiten = (axes / scale) @ axes.T
    centroids = filters.reshape(20, 9) @ (axes * scale) @ axes.T
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-9)
    image = images[7]
    expected = [
        np.maximum((image[r : r + 3, c : c + 3].ravel() - mean) @ whiten @ centroids.T - 0.5, 0)
        for r in range(6)
        for c in range(6)
    ]
    maps = pycnn.conv2d(image[..., None], filters, bias, activation="relu")
    np.testing.assert_allclose(maps.reshape(36, 20), expected, atol=1e-9)


def test_learned_features_do_not_depend_on_the_scale_of_the_pixels(digits):
    pixels = digits[0][:200]
    features = [
        ConvFeatures(n_filters=10, kernel_size=3, random_state=0).fit_transform(scale * pixels)
        for scale in (1, 256)
    ]
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-5)


def test_filters_are_different_and_not_blank(digits):
    filters, _ = learn_filters(digits[0].reshape(-1, 8, 8), 32, 4, random_state=1)
    directions = filters.reshape(32, -1)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.triu(directions @ directions.T, 1).max() < 0.999


def test_colour_images_and_a_network_of_two_learned_layers(rng):
    images = rng.random((30, 14, 12, 3), dtype=np.float32)
    filters, bias = learn_filters(images, 8, 3, random_state=0)
    maps = pycnn.conv_relu_pool(images, filters, bias)
    second, _ = learn_filters(maps, 5, (2, 3), random_state=0)
    assert (filters.shape, second.shape) == ((8, 3, 3, 3), (5, 2, 3, 8))
    assert second.dtype == np.float32


def test_random_filters_are_those_of_pycnn(digits):
    features = ConvFeatures("random", n_filters=5, random_state=3).fit(digits[0][:5])
    seed = np.random.RandomState(3).randint(2**31 - 1)
    np.testing.assert_array_equal(features.filters_, pycnn.random_filters(5, 6, 1, seed=seed))
    np.testing.assert_array_equal(features.bias_, np.zeros(5, np.float32))


def test_better_than_pixels(digits):
    train_x, test_x, train_y, test_y = train_test_split(
        *digits, test_size=0.5, random_state=0, stratify=digits[1]
    )
    classifier = LogisticRegression(max_iter=1000)
    raw = classifier.fit(train_x, train_y).score(test_x, test_y)
    model = make_pipeline(ConvFeatures(kernel_size=4, random_state=0), classifier)
    learned = model.fit(train_x, train_y).score(test_x, test_y)
    assert learned >= 0.98
    assert 1 - learned <= 0.6 * (1 - raw)  # at least four errors in ten are gone


# ---- what X may be -------------------------------------------------------------------------------


def test_tables_and_stacks_are_the_same_images(digits, fitted):
    table = digits[0][:50]
    expected = fitted.transform(table)
    stack = table.reshape(-1, 8, 8)
    for same in (stack, stack[..., None], list(stack), np.asfortranarray(table), table.tolist()):
        np.testing.assert_allclose(fitted.transform(same), expected, rtol=1e-5, atol=1e-6)
    again = clone(fitted).fit(digits[0].reshape(-1, 8, 8, 1))
    assert (again.image_shape_, again.n_features_in_) == ((8, 8, 1), 64)
    np.testing.assert_array_equal(again.transform(table), expected)


@pytest.mark.parametrize("image_shape", [(4, 16), (4, 16, 1), (4, 8, 2), (2, 2, 16)])
def test_image_shape_says_what_a_row_is(digits, image_shape):
    features = ConvFeatures(n_filters=3, image_shape=image_shape, random_state=0)
    table = digits[0][:100]
    result = features.fit_transform(table)
    assert features.image_shape_ == (*image_shape, 1)[:3]
    stack = table.reshape(-1, *image_shape)
    np.testing.assert_array_equal(features.fit_transform(stack), result)


def test_a_table_that_is_no_square_is_read_in_rows_with_a_warning(rng):
    table = rng.random((40, 12))
    with pytest.warns(UserWarning, match="X has 12 features, not a square number"):
        features = ConvFeatures(n_filters=4, random_state=0).fit(table)
    assert features.image_shape_ == (1, 12, 1)
    assert features.filters_.shape == (4, 1, 6, 1)


def test_fewer_patches_than_filters(rng):
    with pytest.warns(UserWarning, match="6 different patches give as many filters, not n_filt"):
        filters, _ = learn_filters(rng.random((6, 2, 2)), 50, 2, random_state=0)
    assert filters.shape == (6, 2, 2, 1)
    with pytest.warns(UserWarning, match="1 different patches"):
        filters, bias = learn_filters(np.full((6, 4, 4), 7.0), 2, 2, random_state=0)
    np.testing.assert_array_equal(filters, 0)
    np.testing.assert_array_equal(bias, -0.5)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.uint8, np.float32),
        (np.bool_, np.float32),
        (np.int64, np.float64),
        (np.float64, np.float64),
    ],
)
def test_dtypes(digits, dtype, expected):
    table = (digits[0][:60] * 16).astype(dtype)
    features = ConvFeatures(n_filters=4, kernel_size=3, random_state=0)
    result = features.fit_transform(table)
    assert (result.dtype, features.filters_.dtype) == (expected, expected)
    # The dtype follows the images, not those seen in fit.
    assert features.transform(table.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_batches_change_nothing(digits, fitted, monkeypatch, pool):
    features = clone(fitted).set_params(pool=pool, activation="sigmoid").fit(digits[0])
    expected = features.transform(digits[0])
    monkeypatch.setattr("pycnn.sklearn._BATCH_BYTES", 20_000)  # eleven images
    np.testing.assert_array_equal(features.transform(digits[0]), expected)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3), (1, 1), (2, 40)])
def test_the_same_features_as_layers_of_a_network(rng, pool, shape):
    images = rng.random((20, *shape), dtype=np.float32)
    features = ConvFeatures(n_filters=5, kernel_size=3, pool=pool, pool_grid=(2, 3), random_state=0)
    features.fit(images)
    network = pycnn.Sequential(features.as_layers(), input_shape=shape)
    np.testing.assert_allclose(
        network.predict(images), features.transform(images), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(NotFittedError):
        ConvFeatures().as_layers()


def test_memory_of_transform_is_that_of_the_result():
    """Also where no fused stage exists, and where every image is converted."""
    run_well(
        "-c",
        "import resource, numpy as np\n"
        "from pycnn.sklearn import ConvFeatures\n"
        "images = np.zeros((4000, 40, 40), np.uint8)\n"
        "images[:, ::3] = np.arange(40, dtype=np.uint8)\n"
        "features = ConvFeatures('random', n_filters=16, pool_grid=1, activation='sigmoid')\n"
        "features.fit(images).transform(images[:300])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "features.transform(images)\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        # Of all images at once the maps alone would take 316 MiB.
        "assert grown < 100 * 1024, grown\n",
    )


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "sentence"),
    [
        ({"filters": "wavelets"}, ValueError, "filters='wavelets' is unknown"),
        ({"filters": np.ones((2, 9, 3))}, ValueError, "do not fit images of shape (8, 8, 1)"),
        ({"filters": np.ones((2, 3, 3, 2))}, ValueError, "do not fit images of shape (8, 8, 1)"),
        ({"filters": np.ones((3, 3))}, ValueError, "filters have shape (3, 3); expected"),
        ({"filters": np.ones((2, 3, 3)), "bias": [1]}, ValueError, "bias has shape (1,)"),
        ({"filters": np.ones((2, 3, 3), complex)}, TypeError, "filters has dtype complex128"),
        (
            {"filters": np.full((2, 3, 3), np.nan)},
            ValueError,
            "ConvFeatures: filters has numbers that are not finite in float32",
        ),
        ({"filters": np.full((2, 3, 3), 1e300)}, ValueError, "filters has numbers that are not"),
        (
            {"filters": np.ones((2, 3, 3)), "bias": [0, np.inf]},
            ValueError,
            "bias has numbers that are not finite in float32",
        ),
        ({"n_patches": 10**10}, MemoryError, "n_patches=10000000000 patches of 36 numbers"),
        ({"n_patches": 10**30}, ValueError, "n_patches="),
        ({"bias": [1.0]}, ValueError, "bias is for given filters"),
        ({"n_filters": 0}, ValueError, "n_filters=0 must be at least 1"),
        ({"n_filters": 2.5}, TypeError, "n_filters=2.5 is a float"),
        ({"kernel_size": (3, 0)}, ValueError, "kernel_size=0 must be at least 1"),
        ({"pool_grid": -1}, ValueError, "pool_grid=-1 must be at least 1"),
        ({"pool": "mean"}, ValueError, "pool='mean' is unknown"),
        ({"activation": "tanh"}, ValueError, "activation='tanh' is unknown"),
        ({"n_patches": True}, TypeError, "n_patches=True is a bool"),
        ({"image_shape": 64}, ValueError, "image_shape=64 is not (height, width)"),
        ({"image_shape": (64,)}, ValueError, "image_shape=(64,) is not (height, width)"),
        ({"image_shape": (8, 9)}, ValueError, "does not fit X, whose images have 64 features"),
        ({"image_shape": (-8, -8)}, ValueError, "image_shape=-8 must be at least 1"),
        ({"random_state": "seed"}, ValueError, "'seed' cannot be used to seed"),
    ],
)
def test_bad_parameters(digits, parameters, error, sentence):
    with pytest.raises(error) as caught:
        ConvFeatures(**parameters).fit(digits[0][:20])
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "error", "sentence"),
    [
        (lambda x: x[:, :60], ValueError, "X has 60 features, but ConvFeatures is expecting 64"),
        (lambda x: x.reshape(-1, 4, 16), ValueError, "X has images of shape (4, 16, 1)"),
        (lambda x: x.reshape(-1, 4, 4, 2, 2), ValueError, "Found array with dim 5"),
        (lambda x: x[0], ValueError, "Expected 2D array, got 1D array"),
        (lambda x: x[:0], ValueError, "Found array with 0 sample(s)"),
        (lambda x: np.where(x > 0.9, np.nan, x), ValueError, "Input X contains NaN"),
        (lambda x: np.where(x > 0.9, np.inf, x), ValueError, "Input X contains infinity"),
        (lambda x: x.astype(complex), ValueError, "Complex data not supported"),
        (lambda x: x.astype(np.longdouble), TypeError, "X has dtype float128"),
        (lambda x: x.reshape(-1, 8, 8).astype(object), TypeError, "X has dtype object"),
        (lambda x: np.ma.array(x), TypeError, "X is a masked array"),
        (lambda x: np.ma.array(x.reshape(-1, 8, 8)), TypeError, "X is a masked array"),
        (lambda x: scipy.sparse.csr_array(x), TypeError, "Sparse data was passed"),
    ],
)
def test_bad_images(digits, fitted, bad, error, sentence):
    with pytest.raises(error) as caught:
        fitted.transform(bad(digits[0][:20]))
    assert sentence in str(caught.value)


def test_float32_images_where_the_filters_do_not_fit_into_float32(digits):
    features = ConvFeatures(n_filters=3, kernel_size=2).fit(1e-200 * digits[0].astype(np.float64))
    with pytest.raises(ValueError, match="filters_ has numbers that are not finite in float32"):
        features.transform(digits[0])


@pytest.mark.parametrize("name", ["pool", "activation"])
def test_what_is_set_after_fit_is_checked_again(digits, fitted, name):
    features = pickle.loads(pickle.dumps(fitted)).set_params(**{name: "mean"})
    for call in (lambda: features.transform(digits[0][:2]), features.as_layers):
        with pytest.raises(ValueError, match=f"ConvFeatures: {name}='mean' is unknown"):
            call()


def test_a_fit_that_fails_leaves_the_one_before(digits, fitted):
    frame = pd.DataFrame(digits[0], columns=[f"pixel{i}" for i in range(64)])
    features = clone(fitted).fit(frame)
    before = pickle.dumps({k: v for k, v in vars(features).items() if k != "filters"})
    expected = features.transform(frame)
    other = np.ones((9, 6, 6))
    for bad in ({"filters": np.ones((1, 7, 7))}, {"image_shape": (5, 5)}, {"pool_grid": 0}):
        kept = features.get_params()
        with pytest.raises(ValueError):
            features.set_params(**bad).fit(other)
        features.set_params(**kept)
        assert pickle.dumps({k: v for k, v in vars(features).items() if k != "filters"}) == before
    np.testing.assert_array_equal(features.transform(frame), expected)


@pytest.mark.parametrize("power", [-664, -100, 664, 1023])
def test_images_on_any_scale_give_filters(digits, power):
    images = digits[0][:100].reshape(-1, 8, 8).astype(np.float64)
    expected, bias = learn_filters(images, 5, 3, n_patches=500, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = np.ldexp(images, power)
        filters, same = learn_filters(scaled, 5, 3, n_patches=500, random_state=0)
    assert filters.any()
    np.testing.assert_array_equal(filters, np.ldexp(expected, -power))
    np.testing.assert_array_equal(same, bias)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.ones((4, 9, 9), object), "images has dtype object"),
        (np.ma.array(np.ones((4, 9, 9))), "images is a masked array"),
        (np.ones((4, 9, 9), complex), "images has dtype complex128"),
        (np.ones((4, 9, 9), np.longdouble), "images has dtype float128"),
        (scipy.sparse.csr_array(np.ones((4, 9))), "images has dtype object"),
    ],
)
def test_images_without_kernels(images, sentence):
    with pytest.raises(TypeError, match=f"^learn_filters: {sentence}"):
        learn_filters(images, 2, 2)


def test_learning_has_a_limit():
    wide = np.zeros((1, 400, 400), np.float32)
    with pytest.raises(MemoryError, match="^learn_filters: n_patches=5 patches of 160000 numbers"):
        learn_filters(wide, 2, 400, n_patches=5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.ones((4, 9)), 2, 2), "images have shape (4, 9); expected (N, H, W)"),
        ((np.ones((4, 9, 9, 0)), 2, 2), "images have shape (4, 9, 9, 0); expected (N, H, W)"),
        ((np.ones((4, 9, 9)), 2, (3, 10)), "kernel_size=(3, 10) exceeds the images' size (9, 9)"),
        ((np.full((4, 9, 9), np.nan), 2, 2), "Input images contains NaN"),
        ((1e-40 * np.eye(9, dtype="f4")[None], 2, 2), "images have pixels so near zero"),
    ],
)
def test_bad_arguments_of_learn_filters(arguments, sentence):
    with pytest.raises(ValueError) as caught:
        learn_filters(*arguments)
    assert sentence in str(caught.value)


# ---- in scikit-learn's company -------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(digits, fitted):
    again = clone(fitted).fit(digits[0])
    np.testing.assert_array_equal(again.filters_, fitted.filters_)
    np.testing.assert_array_equal(again.bias_, fitted.bias_)
    other = clone(fitted).set_params(random_state=1).fit(digits[0])
    assert (other.filters_ != fitted.filters_).any()


def test_names_of_features_and_frames(digits, fitted):
    names = [f"convfeatures{i}" for i in range(48)]
    assert list(fitted.get_feature_names_out()) == names
    expected = fitted.transform(digits[0][:9])
    for kind, frame in (("pandas", pd.DataFrame), ("polars", pl.DataFrame)):
        result = clone(fitted).set_output(transform=kind).fit(digits[0]).transform(digits[0][:9])
        assert isinstance(result, frame)
        assert list(result.columns) == names
        np.testing.assert_array_equal(result.to_numpy(), expected)


def test_frames_as_input(digits, fitted):
    columns = [f"pixel{i}" for i in range(64)]
    frame = pd.DataFrame(digits[0], columns=columns)
    features = clone(fitted).fit(frame)
    assert list(features.feature_names_in_) == columns
    np.testing.assert_array_equal(features.transform(frame), fitted.transform(digits[0]))
    with pytest.raises(ValueError, match="feature names should match"):
        features.transform(frame.rename(columns={"pixel0": "corner"}))


def test_pickle_and_joblib(digits, fitted, tmp_path):
    expected = fitted.transform(digits[0][:20])
    joblib.dump(fitted, tmp_path / "features.joblib")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "features.joblib")):
        np.testing.assert_array_equal(copy.transform(digits[0][:20]), expected)


def test_read_only_memory_mapped_images(digits, fitted, tmp_path):
    joblib.dump(digits[0], tmp_path / "digits.joblib")
    mapped = joblib.load(tmp_path / "digits.joblib", mmap_mode="r")
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    features = clone(fitted).fit(mapped)
    np.testing.assert_array_equal(features.transform(mapped), fitted.transform(digits[0]))


def test_grid_search_in_two_processes(digits):
    x, y = (part[:400] for part in digits)
    model = make_pipeline(
        ConvFeatures(n_filters=8, kernel_size=3, random_state=0), LogisticRegression(max_iter=500)
    )
    grid = {"convfeatures__pool": ["max", "avg"], "convfeatures__filters": ["kmeans", "random"]}
    searches = [GridSearchCV(model, grid, cv=2, n_jobs=n).fit(x, y) for n in (1, 2)]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)
    assert max(scores[0]) > 0.85
    assert searches[0].predict(x[:1]).shape == (1,)


def test_the_example_classifies_digits():
    example = Path(__file__).parents[1] / "examples" / "classify_digits.py"
    right = re.search(r"([\d.]+)% of 899 others are right", run_well(str(example)))
    assert float(right[1]) > 97


def test_threads_share_a_transformer(digits, fitted):
    parts = np.array_split(digits[0], 24)
    expected = [fitted.transform(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for result, right in zip(pool.map(fitted.transform, parts * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(result, right)
