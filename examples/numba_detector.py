"""Call pycnn from a loop that Numba compiles: the same layers, no Python between the calls.

Needs Numba:

    pip install pycnn numba
    python examples/numba_detector.py
"""

import ctypes

import numpy as np
from numba import njit
from numba.extending import get_cython_function_address


def function(name, result, *arguments):
    """A function of pycnn's C API, as something that compiled code can call."""
    address = get_cython_function_address("pycnn.capi", name)
    return ctypes.CFUNCTYPE(result, *arguments)(address)


pointer, size = ctypes.c_void_p, ctypes.c_size_t
plan_conv = function("plan_conv_relu_pool_f32", ctypes.c_int, pointer, pointer)
plan_workspace = function("plan_workspace", ctypes.c_int, pointer, pointer)
plan_destroy = function("plan_destroy", None, pointer)
pack = function("pack_f32", ctypes.c_int, pointer, pointer, pointer)
filters_destroy = function("filters_destroy", None, pointer)
run = function("run_f32", ctypes.c_int, *[pointer] * 6, size)

# pycnn_conv2d_params, up to the members used here: what is missing at its end has its default.
PARAMS = np.dtype(
    [
        ("struct_size", np.uintp),
        ("image", np.intp, 4),  # images, height, width, channels
        ("filters", np.intp, 3),  # filters, kernel_height, kernel_width
        ("stride", np.intp, 2),
        ("padding", np.intp, 4),
        ("dilation", np.intp, 2),
        ("groups", np.intp),
        ("x_strides", np.intp, 4),
        ("out_strides", np.intp, 4),
    ]
)


@njit
def brightest_response(plan, filters, image, window, features, workspace):
    """The largest pooled response of each window, one row and column after the other."""
    rows, columns = image.shape[0] - window + 1, image.shape[1] - window + 1
    best = np.zeros((rows, columns), np.float32)
    for y in range(rows):
        for x in range(columns):
            status = run(
                plan,
                filters,
                image[y:, x:].ctypes.data,  # the plan knows the strides: nothing is copied
                0,
                features.ctypes.data,
                workspace.ctypes.data,
                workspace.size,
            )
            if status != 0:
                raise ValueError("pycnn refused the call")
            best[y, x] = features.max()
    return best


def detect(image, filters, window):
    """The largest response of any filter in each window of a grey image."""
    params = np.zeros((), PARAMS)
    params["struct_size"] = PARAMS.itemsize
    params["image"] = 1, window, window, 1
    params["filters"] = filters.shape
    params["x_strides"] = 0, *image.strides, image.itemsize
    plan, packed, n_bytes = (np.zeros(1, np.uintp) for _ in range(3))
    if plan_conv(params.ctypes.data, plan.ctypes.data) != 0:
        raise ValueError("pycnn refused the params")
    try:
        if pack(int(plan[0]), filters.ctypes.data, packed.ctypes.data) != 0:
            raise MemoryError("no memory for the packed filters")
        plan_workspace(int(plan[0]), n_bytes.ctypes.data)
        n = (window - filters.shape[1] + 1) // 2
        features = np.empty((n, n, len(filters)), np.float32)
        workspace = np.empty(n_bytes[0], np.uint8)
        return brightest_response(int(plan[0]), int(packed[0]), image, window, features, workspace)
    finally:
        filters_destroy(int(packed[0]))
        plan_destroy(int(plan[0]))


def main():
    rng = np.random.default_rng(1)
    pattern = rng.standard_normal((5, 5)).astype(np.float32)
    image = rng.standard_normal((120, 160)).astype(np.float32)
    image[40:45, 70:75] += 3 * pattern
    filters = np.stack([pattern, -pattern])
    best = detect(image, filters, 12)
    y, x = np.argwhere(best == best.max()).mean(axis=0)
    print(f"{best.size} windows; the best are around row {y:.0f}, column {x:.0f}")


if __name__ == "__main__":
    main()
