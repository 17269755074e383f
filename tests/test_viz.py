"""The pictures: what is in them, where, and in which colours."""

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_diagram import branched, drawn, times

import pycnn
from pycnn import _panels, viz

MAPS = np.random.default_rng(0).standard_normal((20, 30, 6)).astype(np.float32)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def colours(axes):
    """Return what one panel of a figure shows: its colour map's name and its limits."""
    (image,) = axes.images
    return image.get_cmap().name, image.get_clim()


def stage(n_maps, n_channels=1, height=20, width=30, size=3):
    rng = np.random.default_rng(n_maps)
    x = rng.random((height, width, n_channels))
    maps = rng.standard_normal((height - size + 1, width - size + 1, n_maps))
    filters = rng.standard_normal((n_maps, size, size, n_channels))
    return (x, maps, maps.clip(0), maps[::2, ::2].clip(0)), filters


# --- plot_feature_maps ---------------------------------------------------------------------


def test_one_panel_for_each_map_in_order():
    figure = viz.plot_feature_maps(MAPS, titles=list("abcdef"), title="Six maps")
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes] == list("abcdef")
    for i, axes in enumerate(figure.axes):
        shown = axes.images[0].get_array()
        np.testing.assert_allclose(shown, MAPS[:, :, i] / abs(MAPS[:, :, i]).max(), rtol=1e-6)
    assert texts(figure) == ["Six maps"]
    assert drawn(figure).std() > 10


def test_maps_fill_rows_from_left_to_right():
    figure = viz.plot_feature_maps(MAPS, n_cols=4)
    corners = [axes.get_position() for axes in figure.axes]
    lefts = [round(c.x0, 6) for c in corners]
    bottoms = [round(c.y0, 6) for c in corners]
    assert lefts == [*sorted(set(lefts)), *sorted(set(lefts))[:2]]
    assert len(set(bottoms[:4])) == len(set(bottoms[4:])) == 1
    assert bottoms[0] > bottoms[4]


def test_a_single_grey_map():
    figure = viz.plot_feature_maps(MAPS[:, :, 0])
    assert len(figure.axes) == 1


def test_only_the_first_maps_are_drawn_and_the_figure_says_so():
    figure = viz.plot_feature_maps(MAPS, max_maps=4, titles=list("abcdef"))
    assert [axes.get_title() for axes in figure.axes] == list("abcd")
    assert texts(figure) == ["the first 4 of 6 maps"]


def test_signed_maps_are_centred_on_zero():
    figure = viz.plot_feature_maps(MAPS)
    for axes in figure.axes:
        name, (low, high) = colours(axes)
        assert name == "RdBu_r"
        assert low == -high < 0


def test_maps_of_one_figure_share_the_colours_even_if_one_has_no_negative_value():
    maps = MAPS.copy()
    maps[:, :, 2] = abs(maps[:, :, 2])
    names = {colours(axes)[0] for axes in viz.plot_feature_maps(maps).axes}
    assert names == {"RdBu_r"}


def test_maps_without_negative_values_go_from_dark_to_light():
    name, (low, high) = colours(viz.plot_feature_maps(abs(MAPS)).axes[0])
    assert name == "magma"
    assert 0 <= low < high <= 1


def test_a_colour_map_can_be_chosen():
    assert colours(viz.plot_feature_maps(MAPS, cmap="gray").axes[0])[0] == "gray"


def test_a_few_bright_points_do_not_darken_the_rest():
    maps = np.random.default_rng(0).random((100, 100))
    maps[0, 0] = 1000.0
    _, (_, high) = colours(viz.plot_feature_maps(maps).axes[0])
    assert high < 0.002


def test_a_few_points_on_black_are_visible():
    maps = np.zeros((100, 100))
    maps[50, 50] = 3.0
    assert colours(viz.plot_feature_maps(maps).axes[0])[1] == (0, 1)


def test_nan_has_a_colour_of_its_own():
    maps = np.ones((4, 4))
    maps[:2] = np.nan
    figure = viz.plot_feature_maps(maps)
    pixels = drawn(figure).reshape(-1, 4)
    assert (pixels == [0xB8, 0xE0, 0xB8, 0xFF]).all(axis=1).mean() > 0.2


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((5, 5)),
        np.full((5, 5), -2.0),
        np.full((5, 5), np.nan),
        np.full((5, 5), np.inf),
        np.array([[np.nan, np.inf, -np.inf, 1.0]] * 4),
        np.array([[1e308, -1e308]] * 2),
        np.array([[5e-324, 0.0]] * 2),
        np.array([[3e38, -3e38]] * 2, dtype=np.float32),
        np.array([[60000, -60000]] * 2, dtype=np.float16),
        np.array([[True, False]] * 2),
        np.array([[-(2**63), 2**63 - 1]] * 2),
        np.array([[0, 2**64 - 1]] * 2, dtype=np.uint64),
        np.ones((1, 1)),
        np.ones((2, 5000)) * np.arange(5000),
        np.ones((5000, 2)) * 1e308,
        np.random.default_rng(0).random((7, 9))[::-1, ::-2],
        [[1, 2], [3, 4]],
    ],
    ids=lambda values: f"{np.asarray(values).dtype}-{np.shape(values)}",
)
def test_any_real_map_can_be_drawn_without_a_warning(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = viz.plot_feature_maps(values)
    assert drawn(figure).shape[2] == 4


def test_large_maps_are_averaged_not_sampled():
    values = np.zeros((2500, 40))
    values[::3] = 3.0  # means of three rows are all 1; a sample would be 0 or 3
    shown = viz.plot_feature_maps(values).axes[0].images[0].get_array()
    assert shown.shape == (833, 40)
    np.testing.assert_allclose(shown, 1.0)


def test_the_input_is_left_alone():
    maps = MAPS.copy()
    maps.flags.writeable = False
    drawn(viz.plot_feature_maps(maps))
    np.testing.assert_array_equal(maps, MAPS)


# --- plot_filters --------------------------------------------------------------------------


def test_grey_filters_make_a_grid():
    filters = np.random.default_rng(0).standard_normal((9, 3, 3))
    figure = viz.plot_filters(filters, titles=range(9), title="Nine")
    assert [axes.get_title() for axes in figure.axes] == [str(i) for i in range(9)]
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == 3
    assert texts(figure) == ["Nine"]
    drawn(figure)


def test_filters_with_channels_take_one_row_each():
    filters = np.random.default_rng(0).standard_normal((2, 5, 5, 3))
    figure = viz.plot_filters(filters, titles=["first", "second"])
    assert len(figure.axes) == 6
    assert len({round(axes.get_position().y0, 6) for axes in figure.axes}) == 2
    assert [axes.get_title() for axes in figure.axes] == ["first", "", "", "second", "", ""]
    shown = figure.axes[5].images[0].get_array()
    np.testing.assert_allclose(shown, filters[1, :, :, 2] / abs(filters[1, :, :, 2]).max())


def test_positive_filters_are_still_centred_on_zero():
    name, (low, high) = colours(viz.plot_filters(np.ones((1, 3, 3)) + np.eye(3)).axes[0])
    assert name == "RdBu_r"
    assert low == -high < 0


def test_only_the_first_filters_are_drawn():
    figure = viz.plot_filters(np.ones((9, 3, 3)), max_filters=2)
    assert len(figure.axes) == 2
    assert texts(figure) == ["the first 2 of 9 filters"]


# --- plot_stage ----------------------------------------------------------------------------


def test_a_stage_shows_input_filters_and_every_step():
    arrays, filters = stage(3, n_channels=2)
    figure = viz.plot_stage(*arrays, filters=filters, title="Stage 2")
    assert len(figure.axes) == 2 + 3 * 2 + 3 + 3 + 3
    assert texts(figure) == [
        "Stage 2",
        "Input",
        times(20, 30, 2),
        "Filters",
        times(3, 3, 3, 2),
        "Convolution",
        times(18, 28, 3),
        "ReLU",
        times(18, 28, 3),
        "Max pooling",
        times(9, 14, 3),
    ]
    assert drawn(figure).std() > 10


def test_each_filter_stands_beside_its_map():
    arrays, filters = stage(3)
    figure = viz.plot_stage(*arrays, filters=filters)
    centres = [(a.get_position().y0 + a.get_position().y1) / 2 for a in figure.axes]
    np.testing.assert_allclose(centres[1:4], centres[4:7], atol=1e-9)  # filters, convolution


def test_many_filters_are_left_out_and_many_maps_are_counted():
    arrays, filters = stage(30)
    figure = viz.plot_stage(*arrays, filters=filters, max_maps=25)
    assert len(figure.axes) == 1 + 3 * 25
    assert "Filters" not in texts(figure)
    assert times(18, 28, 30) + ", the first 25" in texts(figure)


def test_a_grey_picture_is_grey_and_the_maps_of_a_stage_are_not():
    (x, *maps), _ = stage(2)
    assert colours(viz.plot_stage(x[:, :, 0], *maps).axes[0])[0] == "gray"
    assert colours(viz.plot_stage(x, *maps).axes[0])[0] == "magma"


def test_a_colour_picture_is_shown_in_its_colours():
    (x, *maps), _ = stage(2, n_channels=3)
    x[0, 0] = [-1.0, 2.0, np.nan]
    figure = viz.plot_stage(x, *maps, rgb=True)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown[0, 0], [0, 1, 0])
    np.testing.assert_array_equal(shown[1:], x[1:])
    assert len(figure.axes) == 1 + 3 * 2
    drawn(figure)


@pytest.mark.parametrize("shape", [(20, 30), (400, 9), (9, 4000), (9, 9)])
@pytest.mark.parametrize("n_maps", [1, 2, 4, 5, 17])
def test_nothing_overlaps_or_leaves_the_figure(shape, n_maps):
    arrays, filters = stage(n_maps, 2, *shape, size=5)
    figure = viz.plot_stage(*arrays, filters=filters, title="Stage")
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    for i, a in enumerate(boxes):
        assert 0 <= a.x0 < a.x1 <= figure.bbox.width
        assert 0 <= a.y0 < a.y1 <= figure.bbox.height
        assert min(a.width, a.height) >= 5
        for b in boxes[:i]:
            apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
            assert apart, (a, b)


FORMULA = r"$\frac$ and $"


def test_dollar_signs_are_no_formulas():
    filters = np.ones((2, 3, 3))
    for figure in (
        viz.plot_feature_maps(MAPS, titles=[FORMULA] * 6, title=FORMULA),
        viz.plot_feature_maps({FORMULA: MAPS}),
        viz.plot_filters(filters, titles=[FORMULA] * 2, title=FORMULA),
        viz.plot_stage(MAPS, MAPS, MAPS, MAPS, title=FORMULA),
        viz.plot_network(branched(), (20, 30), title=FORMULA),
    ):
        drawn(figure)
        shown = texts(figure) + [axes.get_title() for axes in figure.axes]
        assert FORMULA in shown + [text.get_text() for text in figure.axes[0].texts]


def test_names_of_files_that_are_no_unicode():
    for figure in (
        viz.plot_feature_maps(MAPS, titles=["\udcff"] * 6, title="\udcff"),
        viz.plot_network(branched(), (20, 30), title="\udcff"),
    ):
        drawn(figure)


def test_a_figure_too_long_for_matplotlib_gets_smaller_letters():
    assert _panels.new_figure(9, 600).dpi == 100
    for width, height in [(9, 700), (10_000, 3)]:
        assert max(_panels.new_figure(width, height).bbox.size) < 2**16


# --- Layers and networks -------------------------------------------------------------------


def test_the_maps_of_every_layer_stand_under_its_name():
    net = branched()
    figure = viz.plot_feature_maps(net.feature_maps(np.eye(20, 30)), max_maps=6)
    maps = net.feature_maps(np.eye(20, 30))
    drawn_maps = {name: array for name, array in maps.items() if array.ndim == 3}
    assert list(maps)[-2:] == ["flatten_1", "dense_1"]
    assert texts(figure) == [
        text
        for name, array in drawn_maps.items()
        for text in (name, times(*array.shape) + ", the first 6" * (array.shape[2] > 6))
    ]
    assert len(figure.axes) == sum(min(array.shape[2], 6) for array in drawn_maps.values())
    drawn(figure)


def test_a_layer_stands_for_its_filters():
    layer = pycnn.Conv2D(3, 5, input_shape=(9, 9), seed=0)
    for figure in (viz.plot_filters(layer), viz.plot_filters(layer.filters)):
        shown = [axes.images[0].get_array() for axes in figure.axes]
        np.testing.assert_allclose(shown, [f / abs(f).max() for f in layer.filters])
    arrays, filters = stage(3, n_channels=2)
    layer = pycnn.Conv2D.from_arrays(filters)
    assert texts(viz.plot_stage(*arrays, filters=layer)) == texts(
        viz.plot_stage(*arrays, filters=filters)
    )


# --- Errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: viz.plot_feature_maps(np.ones(3)), ValueError, r"maps must have shape .* \(3,\)"),
        (lambda: viz.plot_feature_maps(np.ones((1, 2, 3, 4))), ValueError, "one by one"),
        (lambda: viz.plot_feature_maps(np.ones((0, 3))), ValueError, "maps is empty"),
        (lambda: viz.plot_feature_maps(np.ones((2, 2), complex)), TypeError, "complex128"),
        (lambda: viz.plot_feature_maps([["a"]]), TypeError, "<U1"),
        (lambda: viz.plot_feature_maps([[None]]), TypeError, "object"),
        (lambda: viz.plot_feature_maps(MAPS, titles=["a"]), ValueError, "1 titles .* 6 maps"),
        (lambda: viz.plot_feature_maps(MAPS, n_cols=0), ValueError, "n_cols"),
        (lambda: viz.plot_feature_maps(MAPS, max_maps=0), ValueError, "max_maps"),
        (lambda: viz.plot_filters(np.ones((3, 3))), ValueError, r"filters must .* \(3, 3\)"),
        (lambda: viz.plot_filters(np.ones((0, 3, 3))), ValueError, "filters is empty"),
        (lambda: viz.plot_filters(np.ones((2, 3, 3)), titles="a"), ValueError, "1 titles"),
        (lambda: viz.plot_filters(np.ones((2, 3, 3)), max_filters=0), ValueError, "max_filters"),
        (lambda: viz.plot_feature_maps({"a": MAPS}, n_cols=2), ValueError, "for the maps of one"),
        (lambda: viz.plot_feature_maps({"a": np.ones(3)}), ValueError, "maps holds no maps"),
        (lambda: viz.plot_feature_maps({}), ValueError, "maps holds no maps"),
        (
            lambda: viz.plot_feature_maps({"a": np.ones((2, 3, 4, 5))}),
            ValueError,
            r"maps\['a'\] must .*one by one",
        ),
        (lambda: viz.plot_filters(pycnn.Conv2D(2, 3)), ValueError, r"Conv2D\(2, 3\) is not built"),
        (lambda: viz.plot_network(pycnn.ReLU()), TypeError, "is a ReLU; expected a Sequential"),
        (lambda: viz.plot_network(branched()), ValueError, "plot_network: .*not built"),
        (lambda: viz.plot_network(branched(), (2, 2)), ValueError, r"\$first\$"),
        (lambda: viz.plot_stage(MAPS, MAPS, MAPS, MAPS, rgb=True), ValueError, "3 channels"),
        (lambda: viz.plot_stage(MAPS, MAPS, [], MAPS), ValueError, "activated is empty"),
        (lambda: viz.plot_stage(MAPS, MAPS, MAPS, MAPS, filters=1), ValueError, "filters must"),
        (lambda: viz.plot_stage(MAPS, MAPS, MAPS, MAPS, max_maps=-1), ValueError, "max_maps"),
        (lambda: viz.plot_feature_maps(MAPS, max_maps=1.5), TypeError, "max_maps=1.5 is a float"),
        (lambda: viz.plot_feature_maps(MAPS, max_maps=True), TypeError, "max_maps=True is a bool"),
        (lambda: viz.plot_feature_maps(MAPS, n_cols="2"), TypeError, "n_cols='2' is a str"),
        (lambda: viz.plot_feature_maps(MAPS, titles=5), TypeError, "titles=5 is a int"),
        (lambda: viz.plot_feature_maps(MAPS, title=5), TypeError, "title=5 is a int"),
        (lambda: viz.plot_feature_maps(MAPS, cmap="grey?"), ValueError, "cmap='grey.' is unknown"),
        (lambda: viz.plot_feature_maps({"a": MAPS}, cmap=5), TypeError, "cmap=5 is a int"),
        (lambda: viz.plot_feature_maps(np.ma.array(MAPS)), TypeError, "maps is a masked array"),
        (lambda: viz.plot_feature_maps([[1], [1, 2]]), ValueError, "maps is not an array"),
        (lambda: viz.plot_feature_maps({"a": [[1], [1, 2]]}), ValueError, "'a'. is not an array"),
        (lambda: viz.plot_filters(np.ones((2, 3, 3)), max_filters=1.5), TypeError, "max_filters"),
        (lambda: viz.plot_filters(np.ones((2, 3, 3)), titles=5), TypeError, "titles=5 is a int"),
        (lambda: viz.plot_filters(np.ones((2, 3, 3)), cmap="x"), ValueError, "cmap='x' is unk"),
        (lambda: viz.plot_filters(np.ones((2, 3, 3)), title=[]), TypeError, "title=.. is a list"),
        (lambda: viz.plot_stage(MAPS, MAPS, MAPS, MAPS, rgb=1), TypeError, "rgb=1 is a int"),
        (lambda: viz.plot_stage(MAPS, MAPS, MAPS, MAPS, title=1), TypeError, "title=1 is a int"),
        (
            lambda: viz.plot_stage(MAPS, MAPS, MAPS, MAPS[:, :, :4]),
            ValueError,
            "plot_stage: pooled has 4 maps, conv has 6",
        ),
        *(
            (
                lambda shape=shape: viz.plot_stage(*[MAPS] * 4, filters=np.ones(shape)),
                ValueError,
                r"filters of shape .* do not give 6 maps of an x of shape \(20, 30, 6\)",
            )
            for shape in [(4, 3, 3, 6), (6, 3, 3, 4)]
        ),
        (lambda: viz.plot_network(branched(), (9, 9), title=1), TypeError, "title=1 is a int"),
        (lambda: viz.plot_network(branched(), 9), ValueError, "input_shape=9 must be"),
    ],
)
def test_wrong_arguments_are_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_pyplot_is_never_loaded(tmp_path):
    program = """
        import sys, numpy as np, pycnn
        from pycnn import viz
        assert "matplotlib" not in sys.modules
        viz.plot_feature_maps(np.eye(4))
        viz.plot_filters(np.ones((2, 3, 3)))
        viz.plot_stage(np.eye(4), np.eye(4), np.eye(4), np.eye(4))
        viz.plot_network(pycnn.Sequential([pycnn.ReLU()]), (4, 4))
        assert "matplotlib" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
    """
    environment = os.environ | {"PYTHONPATH": str(Path(viz.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
