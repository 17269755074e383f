"""The C API through ctypes: its structs and functions, written down as a consumer sees them."""

import ctypes
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_size_t, c_ssize_t, c_void_p

import numpy as np

from pycnn import capi

Four = c_ssize_t * 4
REALS = {"f32": c_float, "f64": c_double}


def struct(name, *members):
    """Return a ctypes struct whose members are given as "name ..." strings and their type."""
    fields = [(n, ctype) for names, ctype in members for n in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": [("struct_size", c_size_t), *fields]})


Conv2d = struct(
    "Conv2d",
    ("images height width channels filters kernel_height kernel_width", c_ssize_t),
    ("stride_y stride_x pad_top pad_bottom pad_left pad_right", c_ssize_t),
    ("dilation_y dilation_x groups", c_ssize_t),
    ("x_strides out_strides", Four),
    ("activation precision", c_int),
    ("negative_slope", c_double),
    ("num_threads pool", c_int),
    ("pool_height pool_width pool_stride_y pool_stride_x", c_ssize_t),
)
Pool2d = struct(
    "Pool2d",
    ("images height width channels pool_height pool_width stride_y stride_x", c_ssize_t),
    ("pad_top pad_bottom pad_left pad_right dilation_y dilation_x", c_ssize_t),
    ("x_strides out_strides", Four),
    ("ceil_mode count_include_pad num_threads reserved", c_int),
)
Dense = struct(
    "Dense",
    ("vectors inputs outputs x_stride out_stride", c_ssize_t),
    ("activation num_threads", c_int),
    ("negative_slope", c_double),
)

PLANS = {
    "conv2d": Conv2d,
    "conv_relu_pool": Conv2d,
    "max_pool2d": Pool2d,
    "avg_pool2d": Pool2d,
    "dense": Dense,
}


def functions():
    """Yield the table's members in order: (name, result type, argument types)."""
    yield "error_name", c_char_p, (c_int,)
    for name, params in PLANS.items():
        for suffix in REALS:
            yield f"plan_{name}_{suffix}", c_int, (POINTER(params), POINTER(c_void_p))
    yield "plan_shape", c_int, (c_void_p, POINTER(c_ssize_t))
    yield "plan_workspace", c_int, (c_void_p, POINTER(c_size_t))
    yield "plan_destroy", None, (c_void_p,)
    for suffix in REALS:
        yield f"pack_{suffix}", c_int, (c_void_p, c_void_p, POINTER(c_void_p))
    for suffix in REALS:
        yield f"run_{suffix}", c_int, (*(c_void_p,) * 6, c_size_t)
    yield "filters_destroy", None, (c_void_p,)
    for name, params in PLANS.items():
        n_arrays = 2 if "_pool2d" in name else 4
        for suffix in REALS:
            yield f"{name}_{suffix}", c_int, (POINTER(params), *(c_void_p,) * n_arrays)
    for suffix in REALS:
        yield f"relu_{suffix}", c_int, (c_void_p, c_void_p, c_ssize_t)
    for suffix in REALS:
        yield f"leaky_relu_{suffix}", c_int, (c_void_p, c_double, c_void_p, c_ssize_t)


def in_table_order(members):
    """`filters_destroy` comes between packing and running."""
    names = [name for name, *_ in members]
    members.insert(names.index("run_f32"), members.pop(names.index("filters_destroy")))
    return members


FUNCTIONS = in_table_order(list(functions()))
Api = struct(
    "Api",
    ("major minor", c_int),
    *((name, ctypes.CFUNCTYPE(result, *arguments)) for name, result, arguments in FUNCTIONS),
)

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = c_void_p, [ctypes.py_object, c_char_p]
API = Api.from_address(_pointer_of(capi._C_API, b"pycnn.capi._C_API"))


def suffix_of(dtype):
    return {4: "f32", 8: "f64"}[np.dtype(dtype).itemsize]


def function(name, dtype):
    return getattr(API, f"{name}_{suffix_of(dtype)}")


def status_name(status):
    return API.error_name(status).decode().partition(":")[0]


def address(array):
    return None if array is None else array.__array_interface__["data"][0]


def params(name, **members):
    """Return the params of a kind of layer; tuples fill arrays."""
    values = {key: Four(*v) if isinstance(v, tuple) else v for key, v in members.items()}
    return PLANS[name](ctypes.sizeof(PLANS[name]), **values)


@contextmanager
def plan(name, dtype, given):
    """Give the plan of some params, which must be good ones."""
    handle = c_void_p()
    status = function(f"plan_{name}", dtype)(byref(given), byref(handle))
    assert status == 0, status_name(status)
    try:
        yield handle
    finally:
        API.plan_destroy(handle)


@contextmanager
def packed(handle, filters):
    """Give packed filters, None for None."""
    if filters is None:
        yield None
        return
    result = c_void_p()
    status = function("pack", filters.dtype)(handle, address(filters), byref(result))
    assert status == 0, status_name(status)
    try:
        yield result
    finally:
        API.filters_destroy(result)


def shape_of(handle):
    shape = Four()
    assert API.plan_shape(handle, shape) == 0
    return tuple(shape)


def workspace_of(handle):
    """Return an array of the size that a plan asks for."""
    n_bytes = c_size_t()
    assert API.plan_workspace(handle, byref(n_bytes)) == 0
    return np.full(n_bytes.value, 113, np.uint8)


def run(handle, filters, x, bias, out, workspace=None):
    """Run a plan; return its status."""
    n_bytes = 0 if workspace is None else workspace.nbytes
    arrays = map(address, (x, bias, out, workspace))
    return function("run", x.dtype)(handle, filters, *arrays, n_bytes)
