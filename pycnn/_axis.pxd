"""One axis of a sliding window, cut into spans of outputs whose windows cover the same taps."""

from libc.stdlib cimport calloc

from pycnn._engine cimport DONE, NO_MEMORY, TOO_MANY_SPANS


cdef enum:
    MOST_SPANS = 1 << 22        # of an axis: a plan of 128 MiB


cdef struct Span:
    # Outputs [first, last), all of whose windows cover the taps [tap_first, tap_last).
    Py_ssize_t first, last
    Py_ssize_t tap_first, tap_last


cdef struct Axis:
    Py_ssize_t size, out, kernel, stride, before, dilation
    Span *spans
    Py_ssize_t n_spans


cdef inline Py_ssize_t span_at(const Axis *axis, Py_ssize_t o, Span *span) noexcept nogil:
    """The span that begins at output `o`; returns its end.

    The first tap inside the image and the one behind the last both only move down from one output
    to the next. (0, 0) when no tap is inside.
    """
    cdef Py_ssize_t start = o * axis.stride - axis.before, first = 0, last = 0, end = axis.out
    if start < 0:
        first = min(axis.kernel, (-start - 1) // axis.dilation + 1)
        end = min(end, first_from(axis, axis.before - (first - 1) * axis.dilation))
    if start < axis.size:
        last = min(axis.kernel, (axis.size - 1 - start) // axis.dilation + 1)
        end = min(end, first_from(axis, axis.size - (last - 1) * axis.dilation + axis.before))
    span.first, span.last = o, end
    span.tap_first = first if first < last else 0
    span.tap_last = last if first < last else 0
    return end


cdef inline Py_ssize_t first_from(const Axis *axis, Py_ssize_t position) noexcept nogil:
    """The first output whose window starts at `position` of the padded image or behind it."""
    return (position - 1) // axis.stride + 1 if position > 0 else 0


cdef inline int cut(Axis *axis) noexcept nogil:
    """Fills `spans`, which the caller frees; an `Outcome`."""
    cdef Py_ssize_t o = 0, n = 0
    cdef Span span
    axis.spans = NULL
    axis.n_spans = 0
    while o < axis.out:
        o = span_at(axis, o, &span)
        n += 1
        if n > MOST_SPANS:
            return TOO_MANY_SPANS
    axis.spans = <Span *> calloc(n, sizeof(Span))
    if axis.spans is NULL:
        return NO_MEMORY
    o = 0
    while o < axis.out:
        o = span_at(axis, o, &axis.spans[axis.n_spans])
        axis.n_spans += 1
    return DONE


cdef inline Py_ssize_t overlap(const Span *span, Py_ssize_t first, Py_ssize_t last,
                               Span *out) noexcept nogil:
    """The part of a span inside [first, last); its length, at most 0 when there is none."""
    out[0] = span[0]
    out.first = max(span.first, first)
    out.last = min(span.last, last)
    return out.last - out.first
