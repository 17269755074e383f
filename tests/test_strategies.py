"""The generators themselves: each layout is what its name says."""

import numpy as np
import pytest
from strategies import DTYPES, LAYOUTS, Plain, numbers

HAS = {
    "C": lambda a: a.flags.c_contiguous and a.flags.aligned and a.flags.writeable,
    "Fortran": lambda a: a.flags.f_contiguous and not a.flags.c_contiguous,
    "transposed": lambda a: not a.flags.c_contiguous and a.strides[0] == a.itemsize,
    "planes": lambda a: a.strides[-2] == a.itemsize < a.strides[-3] < a.strides[-1],
    "negative strides": lambda a: all(s < 0 for s in a.strides),
    "every other": lambda a: a.strides[-1] == 2 * a.itemsize,
    "read-only": lambda a: not a.flags.writeable,
    "byte-swapped": lambda a: a.itemsize == 1 or not a.dtype.isnative,
    "unaligned": lambda a: a.itemsize == 1 or not a.flags.aligned,
    "memory-mapped": lambda a: isinstance(a, np.memmap),
    "zero stride": lambda a: a.strides[-1] == 0,
    "subclass": lambda a: type(a) is Plain,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_layouts(rng, name, dtype):
    values = numbers(rng, (3, 4, 5), dtype)
    array = LAYOUTS[name](values)
    assert HAS[name](array)
    assert array.shape == values.shape
    if name == "zero stride":
        values = np.broadcast_to(values[..., :1], values.shape)
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n not in ("transposed", "zero stride")])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3)])
def test_layouts_of_nothing_and_of_one_number(rng, name, shape):
    values = numbers(rng, shape, "float64")
    array = LAYOUTS[name](values)
    assert isinstance(array, np.ndarray)
    assert array.shape == shape
    np.testing.assert_array_equal(array, values)
