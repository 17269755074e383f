"""Check the pictures of ``pycnn features`` in a folder: whole PNGs of the drawings' sizes."""

import sys
from pathlib import Path

import numpy as np
import PIL.Image
from skimage import color, data, util

import pycnn
from pycnn import viz
from pycnn.cli import features

folder = Path(sys.argv[1])
x = util.img_as_float32(color.rgb2gray(data.chelsea()))
shapes = [(149, 224, 2), (72, 110, 3), (33, 52, 1)]
for i, (filters, shape) in enumerate(
    zip(features.tutorial_filters(), shapes, strict=True), start=1
):
    maps = pycnn.conv(x, filters)
    after_relu = pycnn.relu(maps)
    pooled = pycnn.pooling(after_relu)
    assert pooled.shape == shape, pooled.shape
    figure = viz.plot_stage(x, maps, after_relu, pooled, filters=filters, title=f"Stage {i}")
    path = folder / f"stage{i}.png"
    with PIL.Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG", picture.format
        expected = figure.get_size_inches() * figure.dpi
        assert np.abs(picture.size - expected).max() <= 1, (path, picture.size, expected)
        grey = np.asarray(picture.convert("L"))
    assert grey.std() > 10, f"{path} is blank"
    print(f"{path}: {picture.size[0]} x {picture.size[1]}, {len(np.unique(grey))} shades")
    x = pooled
assert len(list(folder.iterdir())) == len(shapes), sorted(folder.iterdir())
