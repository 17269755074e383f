"""Networks as diagrams."""

import warnings

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import pycnn
from pycnn import viz


def drawn(figure):
    """Return the figure as pixels, having drawn it without a single warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def times(*sizes):
    return " \N{MULTIPLICATION SIGN} ".join(map(str, sizes))


def branched():
    inner = pycnn.Sequential([pycnn.Conv2D(3, 1), pycnn.ReLU()])
    return pycnn.Sequential(
        [
            pycnn.Conv2D(8, 3, seed=0, name="$first$"),
            pycnn.Concatenate([inner, pycnn.Conv2D(2, 3, padding=1)]),
            pycnn.MaxPool2D(),
            pycnn.Flatten(),
            pycnn.Dense(4),
        ]
    )


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_network_is_drawn_with_shapes_and_costs():
    net = branched()
    figure = viz.plot_network(net, (20, 30), title="Net")
    assert isinstance(figure, Figure)
    assert words(figure)[:4] == ["Net", "result", "parameters", "multiply-adds"]
    rest = iter(words(figure)[4:])
    assert [next(rest), next(rest)] == ["input", times(20, 30)]
    summary = net.summary((20, 30))
    for row in summary.rows:
        expected = [row.name.split("/")[-1], row.layer, times(*row.output_shape)]
        expected += [f"{n:,}" for n in (row.n_parameters, row.multiply_adds) if n]
        assert [next(rest) for _ in expected] == expected
    assert list(rest) == [f"{summary.n_parameters:,}", f"{summary.multiply_adds:,}", "total"]
    assert drawn(figure).std() > 10
    # Without a shape: the one it was built for.
    assert words(viz.plot_network(net)) == words(figure)[1:]


def test_bars_are_as_long_as_their_multiply_adds():
    net = branched()
    bars = viz.plot_network(net, (20, 30)).axes[0].containers
    lengths = np.array([bar.patches[0].get_width() for bar in bars])
    costs = np.array([row.multiply_adds for row in net.summary().rows if row.multiply_adds])
    np.testing.assert_allclose(lengths / lengths.max(), costs / costs.max())


def test_boxes_of_containers_are_indented_and_nothing_overlaps():
    figure = viz.plot_network(branched(), (20, 30))
    drawn(figure)
    (axes,) = figure.axes
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    lefts = [box.get_x() for box in boxes]
    depths = [0, 0, 2, 2, 1, 0, 0, 0, 0]  # the input, and each layer
    assert len(boxes) == len(depths)
    assert len({round(left, 6) for left, depth in zip(lefts, depths) if depth == 0}) == 1
    assert [left > lefts[0] for left in lefts] == [depth > 0 for depth in depths]
    extents = [text.get_window_extent() for text in axes.texts]
    for i, a in enumerate(extents):
        assert 0 <= a.x0 < a.x1 <= figure.bbox.width
        assert 0 <= a.y0 < a.y1 <= figure.bbox.height
        for b in extents[:i]:
            assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
