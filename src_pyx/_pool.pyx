"""Pooling: loops over images, output rows and blocks of columns.

    out[n, oy, ox, c] = max or mean over ky, kx of
        x[n, oy*sh - top + ky*dh, ox*sw - left + kx*dw, c]

over the taps inside the image.  There is one kernel, a maximum or a sum over a grid of taps, with
vectors along the channels, or along a whole line where consecutive windows are contiguous.  The
loops here choose what it runs over; see choose().
"""

cimport numpy as cnp
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdlib cimport free

from pycnn._arrays cimport carray
from pycnn._axis cimport Axis, Span, cut, overlap
from pycnn._engine cimport (
    DONE, NO_MEMORY, aligned_alloc, aligned_free, check, kernels_of, padded, parallel,
    pycnn_windows, type_index, workers_to_read,
)

cnp.import_array()

# A line of the scratch should leave room for the image in the L1 cache, and must fit the L2.
cdef Py_ssize_t LINE_BYTES = 16 * 1024
cdef Py_ssize_t LONGEST_LINE_BYTES = 256 * 1024


# ---- plan ---------------------------------------------------------------------------------------

cdef class PoolPlan:
    """A checked pooling geometry, made once per shape and used by many calls."""

    def __cinit__(self, cnp.dtype dtype, x_shape, window, out_shape, stride, before, after,
                  dilation, bint mean, bint count_padding):
        cdef Pooling *g = &self.pooling
        self.type_num = dtype.num
        g.itemsize = dtype.itemsize
        g.n, g.y.size, g.x.size, g.channels = x_shape
        g.y.kernel, g.x.kernel = window
        g.y.out, g.x.out = out_shape
        g.y.stride, g.x.stride = stride
        g.y.before, g.x.before = before
        g.y.dilation, g.x.dilation = dilation
        g.y_end, g.x_end = g.y.size + after[0], g.x.size + after[1]
        g.mean = mean
        g.count_padding = count_padding
        check(plan_pooling(g, type_index(dtype.num), g.x.out))

    def __dealloc__(self):
        free_pooling(&self.pooling)


cdef int plan_pooling(Pooling *g, int type, Py_ssize_t all_columns) noexcept nogil:
    """Completes a checked geometry; an `Outcome`.

    A part of an image gets the bits of all of it, which has so many columns of windows.
    """
    cdef int outcome
    g.kernels = kernels_of(type)
    g.x.spans = NULL
    outcome = cut(&g.y)
    if outcome == DONE:
        outcome = cut(&g.x)
    if outcome == DONE:
        choose(g, all_columns)
    else:
        free_pooling(g)
    return outcome


cdef void free_pooling(Pooling *g) noexcept nogil:
    free(g.y.spans)
    free(g.x.spans)
    g.y.spans = g.x.spans = NULL


cdef void choose(Pooling *g, Py_ssize_t all_columns) noexcept nogil:
    """The cheapest way, in vectors loaded and stored per output; which is the same for all of them.

    Two passes, and folding, add up a mean in another order.

    two_passes  pools the rows of a block of columns into a line of the scratch, then the line's
                columns: kh + kw loads rather than kh * kw, but the line is one more store.
    spread      for fewer channels than lanes: pools the windows at every column, not only at each
                stride-th, because those are contiguous; then drops the columns between.
    fold        for wide windows of few channels: adds up the pixels m by m, then the m sums.
    """
    cdef Py_ssize_t lanes = g.kernels.lanes, pixel = g.channels * g.itemsize
    cdef bint narrow = g.channels < lanes
    cdef double kh = g.y.kernel, kw = g.x.kernel, sw = g.x.stride if all_columns > 1 else kw
    cdef double one, two, columns, reach = (kw - 1) * g.x.dilation + 1
    cdef Py_ssize_t line

    # The kernel itself shuffles pairs of pixels apart, where whole pixels fill a vector.
    cdef bint pairs = (narrow and g.channels <= 8 and g.channels & (g.channels - 1) == 0
                       and g.x.kernel == g.x.stride == 2 and g.x.dilation == 1
                       and g.itemsize >= 4)

    # More columns between two windows than lanes: element by element is no slower.
    g.spread = narrow and 1 < g.x.stride < lanes and all_columns > 1 and not pairs
    columns = sw if g.spread else 1
    if narrow and g.x.stride >= lanes:
        columns = lanes
    one = kh * kw * columns + 1
    two = one if pairs else (kh + 1) * sw + kw * columns + 1
    if reach * pixel > LONGEST_LINE_BYTES // 2:
        two = one
    g.two_passes = two < one and kh > 1 and kw > 1
    g.fold = (narrow and g.x.dilation == 1 and kw * g.channels >= 8 * lanes
              and kh * kw + 16 < min(one, two))

    g.line_bytes = g.spread_bytes = 0
    g.block = g.x.out
    if g.fold:
        g.two_passes = g.spread = False
        g.spread_bytes = 16 * lanes * g.itemsize
    if g.two_passes or g.spread:
        # The line takes the input columns that a block of output columns touches.
        line = LINE_BYTES // pixel
        if g.two_passes:
            line = max(line, 2 * <Py_ssize_t> reach)
            line = max(1, min(line, g.x.size))
            g.line_bytes = padded(line * pixel)
            g.block = max(1, (line - <Py_ssize_t> reach) // g.x.stride + 1)
        else:
            g.block = max(1, line // g.x.stride)
        g.block = min(g.x.out, g.block)
    if g.spread:
        g.spread_bytes = padded(g.block * g.x.stride * pixel)


cdef Py_ssize_t pool_scratch_bytes(const Pooling *g) noexcept nogil:
    """Lines of one block: pooled rows, windows at every column, and a mean's sums without gaps."""
    return g.line_bytes + (2 if g.mean else 1) * g.spread_bytes


# ---- geometry -----------------------------------------------------------------------------------

cdef inline Py_ssize_t counted(const Pooling *g, const Axis *axis, const Span *span,
                               Py_ssize_t end) noexcept nogil:
    """Pixels of one axis that a window of a mean counts; never the overhang of ceil_mode."""
    cdef Py_ssize_t start
    if not g.count_padding:
        return span.tap_last - span.tap_first
    start = span.first * axis.stride - axis.before
    return min(start + axis.kernel, end) - start


cdef inline Py_ssize_t first_pixel(const Axis *axis, Py_ssize_t o,
                                   const Span *span) noexcept nogil:
    return o * axis.stride - axis.before + span.tap_first * axis.dilation


cdef void touched(const Axis *axis, Py_ssize_t first, Py_ssize_t last, Py_ssize_t *left,
                  Py_ssize_t *right) noexcept nogil:
    """Pixels [left, right) of one axis that the windows of outputs [first, last) touch."""
    cdef Span span
    cdef Py_ssize_t i
    left[0], right[0] = axis.size, 0
    for i in range(axis.n_spans):
        if overlap(&axis.spans[i], first, last, &span) > 0:
            left[0] = min(left[0], first_pixel(axis, span.first, &span))
            right[0] = max(right[0], first_pixel(axis, span.last - 1, &span)
                           + (span.tap_last - span.tap_first - 1) * axis.dilation + 1)


# ---- loops --------------------------------------------------------------------------------------

cdef inline void run(const Pooling *g, pycnn_windows *w, const char *x, char *out) noexcept nogil:
    w.x = x
    w.out = out
    if g.mean:
        g.kernels.mean_windows(w)
    else:
        g.kernels.max_windows(w)


cdef inline void set_count(pycnn_windows *w, Py_ssize_t ny, Py_ssize_t nx) noexcept nogil:
    """What the sums of a mean are divided by."""
    w.count = <double> ny * <double> nx
    w.reciprocal = 1 / w.count if ny & (ny - 1) == 0 and nx & (nx - 1) == 0 else 0


cdef inline void run_line(const Pooling *g, pycnn_windows *w, const char *x, Py_ssize_t n,
                          char *out) noexcept nogil:
    """The window of `w`, without its division, at n elements in a row."""
    w.pixels = 1
    w.channels = n
    w.count = 1
    run(g, w, x, out)


cdef inline void divide(const Pooling *g, const pycnn_windows *w, const char *sums, Py_ssize_t n,
                        char *out) noexcept nogil:
    """A mean's last step, for n sums without gaps."""
    cdef pycnn_windows one = w[0]
    one.rows = one.taps = 1
    one.pixels = 1
    one.channels = n
    run(g, &one, sums, out)


cdef void pool_rows(
    const Pooling *g, const char *image, Py_ssize_t row0, Py_ssize_t first, Py_ssize_t last,
    char *out, char *scratch,
) noexcept nogil:
    """Output rows [first, last) of one image; `out` receives row `first`.

    `image` holds the input from row `row0` on: all of it, or the band these windows touch.
    """
    cdef Span rows
    cdef Py_ssize_t i, oy
    cdef Py_ssize_t row_bytes = g.x.size * g.channels * g.itemsize
    cdef const char *top
    for i in range(g.y.n_spans):
        if overlap(&g.y.spans[i], first, last, &rows) <= 0:
            continue
        for oy in range(rows.first, rows.last):
            top = image + (first_pixel(&g.y, oy, &rows) - row0) * row_bytes
            pool_row(g, top, &rows, out + (oy - first) * g.x.out * g.channels * g.itemsize,
                     scratch)


cdef void pool_channels(const Pooling *g, const char *image, Py_ssize_t first, Py_ssize_t last,
                        char *out, Py_ssize_t out_row) noexcept nogil:
    """Channels [first, last) of all windows, window by window; `out_row` elements are a row.

    No window leaves the image. The bits are those of `pool_rows` where it takes one pass.
    """
    cdef Py_ssize_t oy, ox, y, x
    cdef pycnn_windows w
    w.rows, w.row_step = g.y.kernel, g.y.dilation * g.x.size * g.channels
    w.taps, w.tap_step = g.x.kernel, g.x.dilation * g.channels
    w.pixels, w.pixel_step = 1, 0
    w.channels = last - first
    set_count(&w, g.y.kernel, g.x.kernel)
    for oy in range(g.y.out):
        for ox in range(g.x.out):
            y, x = oy * g.y.stride, ox * g.x.stride
            run(g, &w, image + ((y * g.x.size + x) * g.channels + first) * g.itemsize,
                out + (oy * out_row + ox * g.channels + first) * g.itemsize)


cdef void pool_row(const Pooling *g, const char *top, const Span *rows, char *out,
                   char *scratch) noexcept nogil:
    """One output row; `top` is the first input row of its windows."""
    cdef Py_ssize_t pixel = g.channels * g.itemsize, ox = 0, i, left, right, first
    cdef Py_ssize_t n_rows = rows.tap_last - rows.tap_first
    cdef Span columns
    cdef const char *line
    cdef pycnn_windows w
    while ox < g.x.out:
        line = top
        left = 0
        w.rows = n_rows
        w.row_step = g.y.dilation * g.x.size * g.channels if n_rows > 1 else 0
        if g.two_passes and n_rows > 1:
            touched(&g.x, ox, ox + g.block, &left, &right)
            w.taps = 1
            w.tap_step = w.pixel_step = 0
            w.reciprocal = 1
            run_line(g, &w, top + left * pixel, (right - left) * g.channels, scratch)
            line = scratch
            w.rows = 1
        for i in range(g.x.n_spans):
            if overlap(&g.x.spans[i], ox, ox + g.block, &columns) > 0:
                first = first_pixel(&g.x, columns.first, &columns) - left
                pool_columns(g, &w, line + first * pixel, rows, &columns,
                             out + columns.first * pixel, scratch + g.line_bytes)
        if g.x.out - ox <= g.block:
            return
        ox += g.block


cdef void pool_columns(const Pooling *g, pycnn_windows *w, const char *x, const Span *rows,
                       const Span *columns, char *out, char *scratch) noexcept nogil:
    """Windows side by side that cover the same taps: the rows of `w`, the taps of `columns`."""
    cdef Py_ssize_t pixels = columns.last - columns.first, pixel = g.channels * g.itemsize
    cdef Py_ssize_t _p
    cdef double count = 1
    if g.mean:
        set_count(w, counted(g, &g.y, rows, g.y_end), counted(g, &g.x, columns, g.x_end))
        count = w.count
    w.taps = columns.tap_last - columns.tap_first
    w.tap_step = g.x.dilation * g.channels if w.taps > 1 else 0
    w.pixel_step = 0
    if g.fold:
        for _p in range(pixels):
            w.count = count
            fold_window(g, w, x, w.taps, out, scratch)
            x += g.x.stride * pixel if pixels > 1 else 0
            out += pixel
    elif g.spread and pixels > 1:
        run_line(g, w, x, ((pixels - 1) * g.x.stride + 1) * g.channels, scratch)
        if count == 1:
            g.kernels.compact(scratch, g.x.stride * pixel, out, pixels, pixel)
        else:
            g.kernels.compact(scratch, g.x.stride * pixel, scratch + g.spread_bytes, pixels, pixel)
            w.count = count
            divide(g, w, scratch + g.spread_bytes, pixels * g.channels, out)
    else:
        w.count = count
        w.pixels = pixels
        w.channels = g.channels
        if g.x.stride == 1 or pixels == 1:      # windows without gaps between them
            w.pixels = 1
            w.channels = pixels * g.channels
        else:
            w.pixel_step = g.x.stride * g.channels
        run(g, w, x, out)


cdef void fold_window(const Pooling *g, const pycnn_windows *window, const char *x,
                      Py_ssize_t taps, char *out, char *scratch) noexcept nogil:
    """One window that is a few vectors wide or more, though its pixels are not.

    Its first taps // m * m columns are pooled into m pixels, those into m / 2, and so on to one.
    What is left of the taps joins where it is at least as wide as what the pixels fold to.
    """
    cdef Py_ssize_t pixel = g.channels * g.itemsize, done, m = 1
    cdef pycnn_windows w = window[0], pair
    cdef char *sums = scratch
    cdef char *folded = scratch + 8 * g.kernels.lanes * g.itemsize
    while 2 * m <= taps and m * g.channels < 4 * g.kernels.lanes:
        m *= 2
    done = taps // m * m
    w.taps = taps // m
    w.tap_step = m * g.channels
    run_line(g, &w, x, m * g.channels, sums)
    w.taps = 1
    pair = w
    pair.rows, pair.row_step, pair.taps = 1, 0, 2
    while m > 1:
        m //= 2
        pair.tap_step = m * g.channels
        run_line(g, &pair, sums, m * g.channels, folded)
        sums, folded = folded, sums
        if taps - done >= m:
            run_line(g, &w, x + done * pixel, m * g.channels, sums + m * pixel)
            run_line(g, &pair, sums, m * g.channels, folded)
            sums, folded = folded, sums
            done += m
    divide(g, window, sums, g.channels, out)


cdef struct Job:
    const Pooling *g
    const char *x
    char *out
    char *scratch
    Py_ssize_t scratch_bytes        # of one worker
    Py_ssize_t rows, bands          # output rows of a band, bands of an image


cdef void pool_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """Tasks count bands fastest, then images."""
    cdef Job *job = <Job *> context
    cdef const Pooling *g = job.g
    cdef Py_ssize_t image = task // job.bands, first = task % job.bands * job.rows
    pool_rows(g, job.x + image * g.y.size * g.x.size * g.channels * g.itemsize, 0, first,
              min(first + job.rows, g.y.out),
              job.out + (image * g.y.out + first) * g.x.out * g.channels * g.itemsize,
              job.scratch + worker * job.scratch_bytes)


cdef int workers_for(const Pooling *g) noexcept nogil:
    return workers_to_read(<double> g.n * g.y.size * g.x.size * g.channels * g.itemsize, g.threads)


cdef Py_ssize_t pooling_bytes(const Pooling *g) noexcept nogil:
    """What `run_pooling` needs; negative: too much to address."""
    cdef Py_ssize_t each = padded(pool_scratch_bytes(g)), workers = workers_for(g)
    return -1 if each > PY_SSIZE_T_MAX // workers else each * workers


cdef int run_pooling(const Pooling *g, const char *x, char *out, char *scratch) noexcept nogil:
    """Images of the plan's shape and type, without gaps; an `Outcome`.

    `scratch` is `pooling_bytes` on a cache line, or NULL: then it is allocated for the call.
    """
    cdef int workers = workers_for(g)
    cdef Job job
    job.bands = min(g.y.out, 1 if workers == 1 else (4 * workers - 1) // g.n + 1)
    job.rows = (g.y.out - 1) // job.bands + 1
    job.bands = (g.y.out - 1) // job.rows + 1
    job.g = g
    job.x = x
    job.out = out
    job.scratch_bytes = padded(pool_scratch_bytes(g))
    job.scratch = scratch
    if scratch is NULL:
        job.scratch = <char *> aligned_alloc(pooling_bytes(g))
        if job.scratch is NULL:
            return NO_MEMORY
    parallel(g.n * job.bands, pool_task, &job, workers)
    if scratch is NULL:
        aligned_free(job.scratch)
    return DONE


def pool2d(PoolPlan plan not None, x, out):
    """Runs a plan: an array of its shape and any dtype into `out`, of its dtype and in C order."""
    cdef const Pooling *g = &plan.pooling
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef const char *x_data
    cdef int outcome
    x = carray(x, plan.type_num, g.n * g.y.size * g.x.size * g.channels)
    x_data = cnp.PyArray_BYTES(x)
    with nogil:
        outcome = run_pooling(g, x_data, out_data, NULL)
    check(outcome)
