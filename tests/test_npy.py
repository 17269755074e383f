"""The reader of .npy files, against NumPy's own writer and against damage."""

import io
import struct

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycnn import _npy
from pycnn._disk import BadFile

DTYPES = ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def read(content):
    return _npy.read_array(io.BytesIO(content), len(content))


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0))
    ),
    st.sampled_from("CF"),
)
def test_what_numpy_saves(array, order):
    array = np.asarray(array, order=order)
    result = read(npy(array))
    assert result.shape == array.shape
    assert result.dtype == array.dtype.newbyteorder("=")
    assert result.dtype.isnative and result.flags.c_contiguous and result.flags.aligned
    np.testing.assert_array_equal(result, array)


def test_more_than_is_read_at_once(monkeypatch):
    monkeypatch.setattr(_npy, "CHUNK", 100)
    array = np.arange(1001.0)
    np.testing.assert_array_equal(read(npy(array)), array)
    with pytest.raises(BadFile, match="ends after 7900 of 8008 bytes"):
        _npy.read_array(io.BytesIO(npy(array)[:-108]), len(npy(array)))


def test_what_numpy_can_save_and_this_does_not_read():
    for array, words in [
        (np.array([None]), r"'\|O'"),
        (np.array(["a"]), "'<U1'"),
        (np.ones(1, complex), "'<c16'"),
        (np.ones(1, np.longdouble), "'<f16'"),
        (np.zeros(1, "M8[s]"), "'<M8"),
        (np.zeros(1, "f4,f4"), "header is"),
    ]:
        with pytest.raises(BadFile, match=words):
            read(npy(array))


@pytest.mark.parametrize("number", [0, 1, 2**15, 2**16 - 1])
def test_any_length_of_the_header(number):
    whole = npy(np.ones((2, 3)))
    with pytest.raises(BadFile, match=r"header is b"):
        read(whole[:8] + struct.pack("<H", number) + whole[10:])


@pytest.mark.parametrize(
    "shape",
    ["-1,", "2**31,", "1.0,", "True,", "[3]", "9" * 21 + ",", "1,,", ",", "((3,),)", "6L,", "None"],
)
def test_no_shape(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
    with pytest.raises(BadFile, match="header is"):
        read(_npy._MAGIC + struct.pack("<H", len(header)) + header + bytes(24))


@pytest.mark.parametrize("size", [2**31, 2**32, 2**62 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**20 - 1])
def test_sizes_that_nothing_stands_behind(size):
    for shape in [(size,), (size, 0), (0, size), (size, size), (1, size, 4)]:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        content = _npy._MAGIC + struct.pack("<H", len(header)) + header + bytes(4)
        with pytest.raises(BadFile, match="too large|holds 4 bytes of numbers"):
            read(content)


def test_damage_at_every_byte():
    """There is no checksum, so the numbers may change, and nothing else may happen."""
    array = np.arange(6, dtype="f4").reshape(2, 3)
    whole = npy(array)
    for n_bytes in range(len(whole)):
        with pytest.raises(BadFile):
            read(whole[:n_bytes])
    refused = 0
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            try:
                result = read(bytes(damaged))
            except BadFile:
                refused += 1
            else:
                assert result.dtype.kind in "biuf" and result.nbytes == 24
    assert refused > 0.95 * 8 * (len(whole) - 24)
