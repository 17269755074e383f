"""Convolutions, with or without a pool, and dense layers behind each other, in one call.

What one leaves to the next goes from one of two buffers to the other.
"""

cimport numpy as cnp
from libc.stdlib cimport calloc, free

from pycnn._arrays cimport MOST_DIMENSIONS, carray, empty
from pycnn._conv cimport Packed
from pycnn._dense cimport Dense, pack_weights, plan_dense, run_dense
from pycnn._driver cimport Plan, run
from pycnn._engine cimport DONE, NO_MEMORY, aligned_alloc, aligned_free, check, padded, type_index
from pycnn._stage cimport plan_within

cnp.import_array()


cdef class Chain:
    """Links of one dtype for batches of one size, with a result of this shape.

    A link is (plan, packed, bias, activation, slope) with a ConvPlan or StagePlan, or (None,
    weights, bias, activation, slope) for a dense layer. It takes as many numbers as the one before
    makes.
    """

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None, list links not None):
        cdef Py_ssize_t i, made = 0, wanted = 1
        cdef Link *link
        self.dtype = dtype
        self.kept = []
        self.links = <Link *> calloc(len(links) + 1, sizeof(Link))
        check(DONE if self.links is not NULL else NO_MEMORY)
        self.n_links = len(links)
        for i, (plan, weights, bias, activation, slope) in enumerate(links):
            link = &self.links[i]
            link.activation, link.slope = activation, slope
            if plan is None:
                self.place_dense(link, shape[0], weights, bias)
            else:
                self.place_convolution(link, plan, weights, bias)
            if i > 0 and link.n_in != made:
                raise ValueError(f"link {i} takes {link.n_in} numbers where {made} are made")
            made = link.n_out
            if i + 1 < self.n_links:
                self.buffer_bytes = max(self.buffer_bytes, padded(made * dtype.itemsize))
        if len(shape) > MOST_DIMENSIONS:
            raise ValueError(f"a result of {len(shape)} dimensions")
        self.n_axes = len(shape)
        for i in range(self.n_axes):
            self.sizes[i] = shape[i]
            wanted *= shape[i]
        if made != wanted:
            raise ValueError(f"the links make {made} numbers where the result has {wanted}")
        self.n_out = made

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n_links):
            aligned_free(self.links[i].copied)
        free(self.links)

    cdef const char *keep(self, array, Py_ssize_t size) except? NULL:
        array = carray(array, self.dtype.num, size)
        self.kept.append(array)
        return cnp.PyArray_BYTES(array)

    cdef int place_convolution(self, Link *link, plan, Packed packed, bias) except -1:
        cdef const Plan *p = plan_within(plan)
        self.kept += plan, packed
        link.plan = p
        link.packed = &packed.weights
        link.n_in = p.geometry.n * p.geometry.y.size * p.geometry.x.size * p.geometry.ic
        link.n_out = p.geometry.n * p.result_bytes // p.geometry.itemsize
        if bias is not None:
            link.bias = self.keep(bias, p.geometry.oc)
        return 0

    cdef int place_dense(self, Link *link, Py_ssize_t images, weights, bias) except -1:
        cdef Dense *d = &link.dense
        d.n = images
        d.n_in, d.n_out = weights.shape
        d.threads = 0
        plan_dense(d, type_index(self.dtype.num))
        link.n_in, link.n_out = images * d.n_in, images * d.n_out
        link.weights = self.keep(weights, d.n_in * d.n_out)
        check(pack_weights(d, &link.weights, &link.copied))
        if bias is not None:
            link.bias = self.keep(bias, d.n_out)
        return 0


def run_chain(Chain chain not None, x):
    """The result for `x`, of the first link's size and any dtype."""
    result = empty(chain.n_axes, chain.sizes, chain.dtype)
    run_links(chain, x, result)
    return result


cdef int run_links(Chain chain, x, result) except -1:
    """Fills an array of the chain's dtype, in C order, with as many numbers as it makes."""
    cdef Link *link
    cdef Py_ssize_t i
    cdef int outcome = NO_MEMORY
    cdef const char *source
    cdef char *target
    cdef char *last
    cdef char *buffers
    x = carray(x, chain.dtype.num, chain.links[0].n_in)
    source = cnp.PyArray_BYTES(x)
    last = cnp.PyArray_BYTES(result)
    if cnp.PyArray_TYPE(result) != chain.dtype.num or cnp.PyArray_SIZE(result) != chain.n_out:
        raise ValueError("the result is not that of the chain")
    with nogil:
        buffers = <char *> aligned_alloc(2 * chain.buffer_bytes)
        if buffers is not NULL:
            outcome = DONE
        for i in range(chain.n_links):
            if outcome != DONE:
                break
            link = &chain.links[i]
            target = buffers + i % 2 * chain.buffer_bytes
            if i == chain.n_links - 1:
                target = last
            if link.plan is NULL:
                outcome = run_dense(&link.dense, source, link.weights, link.bias, link.activation,
                                    link.slope, target, NULL)
            else:
                outcome = run(link.plan, link.packed, source, link.bias, link.activation,
                              link.slope, target, link.plan.geometry.n, NULL)
            source = target
        aligned_free(buffers)
    return check(outcome)
