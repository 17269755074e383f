"""Random convolution features, and a linear classifier that reads them.

A layer of random filters, never trained, already turns an image into maps of edges, spots and
textures. A linear model on such maps sees more than the same model on the bare pixels.

Needs scikit-image, matplotlib and scikit-learn:

    pip install "pycnn[images,sklearn]"
    python examples/random_features.py [IMAGE]
"""

import sys

import numpy as np
import skimage.data
import skimage.io
import skimage.util
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pycnn
from pycnn import viz
from pycnn.sklearn import ConvFeatures


def picture_of_random_features(image, n_filters=12, size=7):
    """One feature map for each random filter, drawn into one picture."""
    channels = image.shape[2] if image.ndim == 3 else None
    filters = pycnn.random_filters(n_filters, size, channels, seed=0)
    maps = pycnn.conv(image, filters)
    print(f"image {image.shape}, {n_filters} filters {size} x {size}: maps {maps.shape}")
    figure = viz.plot_feature_maps(maps, title=f"{n_filters} random {size} x {size} filters")
    figure.savefig("random-features.png")
    print("wrote random-features.png")


def classify_digits():
    """Compare LogisticRegression on the pixels of 8 x 8 digits and on their features."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    features = ConvFeatures("random", n_filters=64, kernel_size=3, pool_grid=3, random_state=0)
    for name, table in (
        ("pixels", pixels),
        ("random features", features.fit_transform(pixels)),
    ):
        train_x, test_x, train_y, test_y = train_test_split(
            table, labels, test_size=0.5, random_state=0, stratify=labels
        )
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        accuracy = model.fit(train_x, train_y).score(test_x, test_y)
        print(f"{name:<16} {table.shape[1]:>5} numbers per digit, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    source = skimage.io.imread(sys.argv[1]) if len(sys.argv) > 1 else skimage.data.chelsea()
    picture_of_random_features(skimage.util.img_as_float32(source))
    classify_digits()
