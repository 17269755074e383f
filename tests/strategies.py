"""Generated cases: images of every dtype and memory layout, and every way to slide a window."""

import tempfile
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]

# ---------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------

NUMBERS = ["normal", "whole", "wide", "subnormal", "zeros"]


def numbers(rng, shape, dtype, kind="normal"):
    """Return an array of `dtype`; float formats follow `kind`, the others fill their range."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    elif dtype.kind == "b":
        values = rng.integers(0, 2, shape)
    elif kind == "whole":
        values = rng.integers(-9, 10, shape)
    elif kind == "zeros":
        values = np.where(rng.random(shape) < 0.5, 0.0, -0.0)
    else:
        values = rng.standard_normal(shape)
    if dtype.kind == "f" and kind == "wide":  # but products and sums stay finite in float32
        scale = 4 if dtype == np.float16 else 50
        values = np.ldexp(values, rng.integers(-scale, scale + 1, shape))
    if dtype.kind == "f" and kind == "subnormal":
        smallest = float(np.finfo(dtype).smallest_normal)
        values = values * smallest * 2.0 ** rng.integers(-10, 3, shape)
    return np.asarray(values).astype(dtype)


def poison(rng, array, count):
    """Put NaN and both infinities in `count` random places of a float array, in place."""
    if array.dtype.kind == "f" and array.size:
        places = rng.integers(0, array.size, count)
        array.flat[places] = rng.choice([np.nan, np.inf, -np.inf], count)
    return array


# ---------------------------------------------------------------------------------------------
# Memory layouts
# ---------------------------------------------------------------------------------------------


class Plain(np.ndarray):
    """A subclass of ndarray with nothing of its own."""


def _c(a):
    return a.copy(order="C")


def _fortran(a):
    return a.copy(order="F")


def _transposed(a):
    return a.swapaxes(0, a.ndim - 1).copy(order="C").swapaxes(0, a.ndim - 1)


def _planes(a):
    """Channels first, as other libraries have images."""
    if a.ndim == 0:
        return a.copy()
    first = -min(3, a.ndim)
    return np.moveaxis(np.moveaxis(a, -1, first).copy(), first, -1)


def _negative(a):
    backwards = (..., *[slice(None, None, -1)] * a.ndim)
    return a[backwards].copy()[backwards]


def _every_other(a):
    host = np.full([2 * n + 1 for n in a.shape], 7, dtype=a.dtype)
    view = host[(..., *(slice(1, 2 * n + 1, 2) for n in a.shape))]
    view[...] = a
    return view


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _byte_swapped(a):
    return a.astype(a.dtype.newbyteorder())


def _unaligned(a):
    host = np.zeros(a.nbytes + 1, np.uint8)
    view = host[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _memory_mapped(a):
    if a.size == 0 or a.ndim == 0:
        return a.copy()  # an empty file cannot be mapped, and NumPy maps one number as (1,)
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=a.dtype, shape=a.shape)
        mapped[...] = a
        return mapped  # stays valid after the file is closed


def _zero_stride(a):
    return np.broadcast_to(a[..., :1], a.shape)


def _subclass(a):
    return a.copy().view(Plain)


LAYOUTS = {
    "C": _c,
    "Fortran": _fortran,
    "transposed": _transposed,
    "planes": _planes,
    "negative strides": _negative,
    "every other": _every_other,
    "read-only": _read_only,
    "byte-swapped": _byte_swapped,
    "unaligned": _unaligned,
    "memory-mapped": _memory_mapped,
    "zero stride": _zero_stride,
    "subclass": _subclass,
}
"""Each keeps shape and values, but "zero stride", which repeats the first of the last axis."""

OUT_LAYOUTS = [
    "C",
    "Fortran",
    "transposed",
    "planes",
    "negative strides",
    "every other",
    "unaligned",
]


def plain(array):
    """Return the same values as a fresh C-ordered native ndarray."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False)


def out_like(result, layout):
    """Return an array for ``out=``: `result`'s shape and dtype, rubbish inside, any layout."""
    rubbish = np.full(result.shape, 113, result.dtype)
    return LAYOUTS[layout](rubbish)


# ---------------------------------------------------------------------------------------------
# Windows
# ---------------------------------------------------------------------------------------------


def one_or_two(low, high):
    """Return an int, or a pair of them."""
    number = st.integers(low, high)
    return st.one_of(number, st.tuples(number, number))


@st.composite
def paddings(draw, most=(6, 6), full=True):
    """Return any padding form whose numbers are at most `most` (vertical, horizontal)."""
    v, h = (st.integers(0, m) for m in most)
    forms = [
        st.just("valid"),
        st.just("same"),
        st.integers(0, min(most)),
        st.tuples(v, h),
        st.tuples(st.tuples(v, v), st.tuples(h, h)),
    ]
    if full:
        forms.append(st.just("full"))
    return draw(st.one_of(forms))


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def smallest_size(axis, k, dilation, padding):
    """Return the least number of pixels for which one window fits."""
    extent = (k - 1) * dilation + 1
    if padding == "valid":
        return extent
    if isinstance(padding, str):
        return 1
    pads = pair(pair(padding)[axis])
    return max(1, extent - sum(pads))


@dataclass
class Case:
    """One call: positional arguments, keywords, and whether and how ``out=`` is given."""

    args: tuple
    kwargs: dict = field(default_factory=dict)
    out_layout: str | None = None

    def __repr__(self):
        def show(a):
            if isinstance(a, np.ndarray):
                return f"<{a.dtype.str} {a.shape} strides {a.strides}>"
            return repr(a)

        args = ", ".join(show(a) for a in self.args)
        return f"Case({args}, {self.kwargs}, out={self.out_layout})"

    def plain_args(self):
        return tuple(plain(a) if isinstance(a, np.ndarray) else a for a in self.args)


def _n_out(size, axis, k, stride, dilation, padding):
    """Return an upper estimate of the number of outputs along an axis, to limit the work."""
    extent = (k - 1) * dilation + 1
    pads = 2 * extent if isinstance(padding, str) else sum(pair(pair(padding)[axis]))
    return (size + pads) // stride + 1


@st.composite
def conv_cases(draw, dtypes=DTYPES, kinds=NUMBERS, work=400_000, specials=True):
    """Return calls of conv2d that are right, in every dtype, geometry and layout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ndim = draw(st.sampled_from([2, 3, 3, 4]))
    kh, kw = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    stride, padding = draw(one_or_two(1, 4)), draw(paddings())
    dilations = one_or_two(1, 4)
    if padding in ("same", "full"):  # windows wider than the image fit: they may all miss taps
        dilations = st.one_of(dilations, one_or_two(1, 40))
    dilation = draw(dilations)
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    height = draw(st.integers(smallest_size(0, kh, dh, padding), 40))
    width = draw(st.integers(smallest_size(1, kw, dw, padding), 40))
    n = draw(st.integers(0, 3)) if ndim == 4 else 1
    outputs = _n_out(height, 0, kh, sh, dh, padding) * _n_out(width, 1, kw, sw, dw, padding)
    budget = max(1, work // max(1, n * outputs * kh * kw))
    groups = depth = 1
    if ndim > 2:
        groups = draw(st.integers(1, min(4, budget)))
        depth = draw(st.integers(1, min(40, max(1, budget // groups))))
        if draw(st.booleans()) and depth <= 4:
            groups, depth = depth, 1  # depthwise
    per_group = draw(st.integers(1, min(40, max(1, budget // (groups * depth)))))
    shape = {
        2: (height, width),
        3: (height, width, groups * depth),
        4: (n, height, width, groups * depth),
    }[ndim]
    filters_shape = (groups * per_group, kh, kw) + ((depth,) if ndim > 2 else ())
    x = numbers(rng, shape, draw(st.sampled_from(dtypes)), draw(st.sampled_from(kinds)))
    filters = numbers(
        rng, filters_shape, draw(st.sampled_from(dtypes)), draw(st.sampled_from(kinds))
    )
    if specials and draw(st.integers(0, 3)) == 0:
        poison(rng, x, 3)
        poison(rng, filters, draw(st.integers(0, 1)))
    bias = None
    if draw(st.booleans()):
        bias = numbers(rng, (groups * per_group,), draw(st.sampled_from(["int8", *FLOATS])))
    x = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](x)
    filters = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](filters)
    kwargs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case((x, filters, bias), kwargs, draw(st.sampled_from([None, *OUT_LAYOUTS])))


@st.composite
def pool_cases(draw, dilated=True, dtypes=DTYPES, kinds=NUMBERS):
    """Return calls of a pool with every padding form; a few may hold a window of padding only."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ndim = draw(st.sampled_from([2, 3, 4]))
    size = draw(one_or_two(1, 5))
    stride = draw(st.none() | one_or_two(1, 4))
    dilation = draw(one_or_two(1, 4)) if dilated else 1
    (kh, kw), (dh, dw) = pair(size), pair(dilation)
    padding = draw(paddings(most=((kh - 1) * dh, (kw - 1) * dw)))
    ceil_mode = draw(st.booleans())
    # With ceil_mode even the only window may hang over the edge, by less than a stride.
    sh, sw = pair(stride or size) if ceil_mode else (1, 1)
    height = draw(st.integers(max(1, smallest_size(0, kh, dh, padding) - sh + 1), 40))
    width = draw(st.integers(max(1, smallest_size(1, kw, dw, padding) - sw + 1), 40))
    channels, n = draw(st.integers(1, 40)), draw(st.integers(0, 3))
    shape = {2: (height, width), 3: (height, width, channels), 4: (n, height, width, channels)}
    x = numbers(rng, shape[ndim], draw(st.sampled_from(dtypes)), draw(st.sampled_from(kinds)))
    if draw(st.booleans()):
        poison(rng, x, 3)
    x = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](x)
    kwargs = {"padding": padding, "ceil_mode": ceil_mode}
    if dilated:
        kwargs["dilation"] = dilation
    return Case((x, size, stride), kwargs, draw(st.sampled_from([None, *OUT_LAYOUTS])))


@st.composite
def arrays(draw, dtypes=DTYPES, kinds=NUMBERS, max_ndim=5):
    """Return an array of any rank, 0-d and empty ones included, in any layout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=max_ndim)))
    if draw(st.integers(0, 9)) == 0:
        shape = (draw(st.integers(100, 5000)),)  # longer than any block of a loop
    x = numbers(rng, shape, draw(st.sampled_from(dtypes)), draw(st.sampled_from(kinds)))
    if draw(st.booleans()):
        poison(rng, x, 3)
    names = [name for name in LAYOUTS if shape or name not in ("transposed", "zero stride")]
    return LAYOUTS[draw(st.sampled_from(names))](x)
