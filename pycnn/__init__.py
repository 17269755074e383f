"""Convolutional layers at the speed of the machine, on plain NumPy arrays."""

from typing import TYPE_CHECKING

from pycnn._version import __version__
from pycnn.activations import leaky_relu, relu, sigmoid, softmax
from pycnn.config import get_include, get_num_threads, set_num_threads, show_config
from pycnn.convolution import PackedFilters, conv2d
from pycnn.linear import dense
from pycnn.numpycnn import conv, pooling, random_filters
from pycnn.pool import avg_pool2d, global_avg_pool2d, global_max_pool2d, max_pool2d
from pycnn.stage import conv_relu_pool

if TYPE_CHECKING:
    from pycnn.layers import (
        Add,
        AvgPool2D,
        BatchNorm,
        Concatenate,
        Conv2D,
        Dense,
        Dropout,
        Flatten,
        GlobalAvgPool2D,
        GlobalMaxPool2D,
        LeakyReLU,
        MaxPool2D,
        ReLU,
        Sequential,
        Sigmoid,
        Softmax,
    )

__all__ = [
    "Add",
    "AvgPool2D",
    "BatchNorm",
    "Concatenate",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "LeakyReLU",
    "MaxPool2D",
    "PackedFilters",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "__version__",
    "avg_pool2d",
    "conv",
    "conv2d",
    "conv_relu_pool",
    "dense",
    "get_include",
    "get_num_threads",
    "global_avg_pool2d",
    "global_max_pool2d",
    "leaky_relu",
    "max_pool2d",
    "pooling",
    "random_filters",
    "relu",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
]

if not TYPE_CHECKING:  # to type checkers it would be an attribute of any name

    def __getattr__(name):
        """Layers and networks, at first use: they take half of the time of the import."""
        if name not in __all__ and name != "layers":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import pycnn.layers

        globals().update({n: getattr(pycnn.layers, n) for n in __all__ if n not in globals()})
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__all__, "layers"})
