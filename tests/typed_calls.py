"""Calls whose results type checkers must know: mypy reads this file, test_typing.py runs it."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import pycnn

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Any_ = NDArray[Any]

f16 = np.ones((4, 4), np.float16)
f32 = np.ones((4, 4), np.float32)
f64 = np.ones((4, 4), np.float64)
u8 = np.ones((4, 4), np.uint8)
i16 = np.ones((4, 4), np.int16)
i32 = np.ones((4, 4), np.int32)
i64 = np.ones((4, 4), np.int64)
intp = np.arange(16).reshape(4, 4)
yes = np.ones((4, 4), np.bool_)
filters = np.ones((2, 2, 2), np.float32)
filters64 = np.ones((2, 2, 2))
packed = pycnn.PackedFilters(filters)
packed64 = pycnn.PackedFilters(filters64)


def convolution() -> None:
    assert_type(pycnn.conv2d(f32, filters), Float32)
    assert_type(pycnn.conv2d(u8, filters, padding="same", activation="relu"), Float32)
    assert_type(pycnn.conv2d(yes, filters), Float32)
    assert_type(pycnn.conv2d(f16, packed), Float32)
    assert_type(pycnn.conv2d(f32, filters64), Float64)
    assert_type(pycnn.conv2d(f32, packed64), Float64)
    assert_type(pycnn.conv2d(f64, filters), Float64)
    assert_type(pycnn.conv2d(i32, packed), Float64)
    assert_type(pycnn.conv2d(intp, [[[1.0]]]), Float64)
    assert_type(pycnn.conv2d([[1.0]], [[[1.0]]]), Any_)
    assert_type(packed.array, Float32)
    assert_type(packed64.array, Float64)


def stage() -> None:
    assert_type(pycnn.conv_relu_pool(f32, filters, pool="avg", stride=1), Float32)
    assert_type(pycnn.conv_relu_pool(i16, packed, pool_size=(3, 3)), Float32)
    assert_type(pycnn.conv_relu_pool(i64, filters), Float64)
    assert_type(pycnn.conv_relu_pool(f32, filters64), Float64)


def tutorial() -> None:
    assert_type(pycnn.conv(f32, filters), Float32)
    assert_type(pycnn.conv(f32, filters64), Float64)
    assert_type(pycnn.conv(f64, filters), Float64)
    assert_type(pycnn.pooling(u8), NDArray[np.uint8])
    assert_type(pycnn.random_filters(2, 3), Float32)


def pools() -> None:
    assert_type(pycnn.max_pool2d(f32), Float32)
    assert_type(pycnn.max_pool2d(f16, 2, 1, padding="same"), NDArray[np.float16])
    assert_type(pycnn.max_pool2d(i64), NDArray[np.int64])
    assert_type(pycnn.max_pool2d([[1]], 1), Any_)
    assert_type(pycnn.global_max_pool2d(i16), NDArray[np.int16])
    assert_type(pycnn.avg_pool2d(f32), Float32)
    assert_type(pycnn.avg_pool2d(u8), Float32)
    assert_type(pycnn.avg_pool2d(intp), Float64)
    assert_type(pycnn.global_avg_pool2d(f16), Float32)
    assert_type(pycnn.global_avg_pool2d(f64, keepdims=True), Float64)


def activations() -> None:
    assert_type(pycnn.relu(f32), Float32)
    assert_type(pycnn.relu(i32), NDArray[np.int32])
    assert_type(pycnn.leaky_relu(i16, 0.1), Float32)
    assert_type(pycnn.sigmoid(f32), Float32)
    assert_type(pycnn.sigmoid(f64), Float64)
    assert_type(pycnn.softmax(yes, -1), Float32)
    assert_type(pycnn.softmax(i64), Float64)
    assert_type(pycnn.softmax([1.0, 2.0]), Any_)


def dense() -> None:
    assert_type(pycnn.dense(f32, f32), Float32)
    assert_type(pycnn.dense(u8, f32, activation="softmax"), Float32)
    assert_type(pycnn.dense(f32, f64), Float64)
    assert_type(pycnn.dense(i32, f32), Float64)
