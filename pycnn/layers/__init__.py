"""Layers with parameters of their own, and networks of them."""

from pycnn.layers._layer import Layer
from pycnn.layers._summary import Summary
from pycnn.layers.activations import LeakyReLU, ReLU, Sigmoid, Softmax
from pycnn.layers.branching import Add, Concatenate
from pycnn.layers.convolution import Conv2D
from pycnn.layers.linear import Dense, Flatten
from pycnn.layers.normalization import BatchNorm, Dropout
from pycnn.layers.pooling import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D
from pycnn.layers.sequential import Sequential

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
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Summary",
]
