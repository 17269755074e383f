"""The NumPyCNN tutorial, step by step, on pycnn.

Three stages of convolution, ReLU and max pooling over a grey photograph of a cat. The lines are
those of the tutorial; only the functions come from pycnn. Needs scikit-image and matplotlib:

    pip install "pycnn[images]"
    python examples/tutorial.py
"""

import numpy as np
import skimage.color
import skimage.data

import pycnn
from pycnn import viz

img = skimage.color.rgb2gray(skimage.data.chelsea()).astype(np.float32)

# First stage: two 3x3 filters, one for vertical and one for horizontal edges.
l1_filter = np.zeros((2, 3, 3), dtype=np.float32)
l1_filter[0, :, :] = [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]
l1_filter[1, :, :] = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
l1_feature_map = pycnn.conv(img, l1_filter)
l1_feature_map_relu = pycnn.relu(l1_feature_map)
l1_feature_map_relu_pool = pycnn.pooling(l1_feature_map_relu, 2, 2)

# Second stage: three random 5x5 filters over the two maps of the first.
rng = np.random.default_rng(0)
l2_filter = rng.random((3, 5, 5, l1_feature_map_relu_pool.shape[-1]), dtype=np.float32)
l2_feature_map = pycnn.conv(l1_feature_map_relu_pool, l2_filter)
l2_feature_map_relu = pycnn.relu(l2_feature_map)
l2_feature_map_relu_pool = pycnn.pooling(l2_feature_map_relu, 2, 2)

# Third stage: one random 7x7 filter over the three maps of the second.
l3_filter = rng.random((1, 7, 7, l2_feature_map_relu_pool.shape[-1]), dtype=np.float32)
l3_feature_map = pycnn.conv(l2_feature_map_relu_pool, l3_filter)
l3_feature_map_relu = pycnn.relu(l3_feature_map)
l3_feature_map_relu_pool = pycnn.pooling(l3_feature_map_relu, 2, 2)

print("image", img.shape)
for i, (maps, pooled) in enumerate(
    [
        (l1_feature_map, l1_feature_map_relu_pool),
        (l2_feature_map, l2_feature_map_relu_pool),
        (l3_feature_map, l3_feature_map_relu_pool),
    ],
    start=1,
):
    print(f"stage {i}: convolution {maps.shape}, pooling {pooled.shape}")

figure = viz.plot_stage(
    img,
    l1_feature_map,
    l1_feature_map_relu,
    l1_feature_map_relu_pool,
    filters=l1_filter,
    title="Stage 1",
)
figure.savefig("tutorial-stage1.png")
print("wrote tutorial-stage1.png")
