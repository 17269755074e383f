"""One call: scratch, tasks for the threads, and images handed back to the direct algorithm."""

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport INFINITY
from libc.string cimport memchr, memset

from pycnn._amx cimport amx_cycles
from pycnn._blocks cimport conv_block, conv_scratch_bytes
from pycnn._engine cimport (
    DONE, NO_MEMORY, aligned_alloc, aligned_free, num_threads, padded, parallel,
)
from pycnn._geometry cimport (
    AMX, DIRECT, DOTS, WINOGRAD, Block, Call, Geometry, ceil_div, hands_back, total_products,
)
from pycnn._plan cimport (
    Weights, direct_weights, free_geometry, plan_geometry, planned_directly,
)
from pycnn._winograd cimport tile_columns, tile_rows, winograd_rows

# What all filter panels should find in the L2 cache.
cdef Py_ssize_t BAND_BYTES = 768 * 1024
# Multiply-adds that take about ten times as long as waking a thread.
cdef double PRODUCTS_PER_THREAD = 2e6


# ---- any plan -----------------------------------------------------------------------------------

cdef int run(const Plan *plan, Weights *weights, const char *x, const char *bias, int activation,
             double slope, char *out, Py_ssize_t images, char *scratch) noexcept nogil:
    """So many images; those that the plan's algorithm cannot take, directly. An `Outcome`.

    `scratch` is `scratch_bytes` on a cache line, or NULL: then it is allocated for the call.
    """
    cdef const Geometry *g = plan.geometry
    cdef Py_ssize_t x_bytes = g.y.size * g.x.size * g.ic * g.itemsize
    cdef Py_ssize_t image, n_bytes
    cdef int outcome = DONE
    cdef char *own = scratch
    cdef Job job
    if weights.data is NULL:
        return run_directly(plan, weights, x, bias, activation, slope, out, images, scratch)
    job.plan = plan
    job.x = x
    job.out = out
    job.images = images
    plan.divide(plan, &job)
    n_bytes = own_bytes(&job)
    if scratch is NULL:
        own = <char *> aligned_alloc(n_bytes)
        if own is NULL:
            return NO_MEMORY
    start_call(g, weights, bias, activation, slope, own, &job.call)
    job.scratch = own + bias_bytes(g)
    job.unsafe = job.scratch + job.workers * job.scratch_bytes
    memset(job.unsafe, 0, mark_bytes(&job))
    parallel(job.tasks, plan.task, &job, job.workers)
    for image in range(images if plan.direct is not NULL else 0):
        if outcome == DONE and is_unsafe(&job, image):
            outcome = run_directly(plan, weights, x + image * x_bytes, bias, activation, slope,
                                   out + image * plan.result_bytes, 1,
                                   NULL if scratch is NULL else scratch + n_bytes)
    if scratch is NULL:
        aligned_free(own)
    return outcome


cdef int run_directly(const Plan *plan, Weights *weights, const char *x, const char *bias,
                      int activation, double slope, char *out, Py_ssize_t images,
                      char *scratch) noexcept nogil:
    cdef Weights *direct = direct_weights(weights, plan.direct.geometry)
    if direct is NULL:
        return NO_MEMORY
    return run(plan.direct, direct, x, bias, activation, slope, out, images, scratch)


cdef Py_ssize_t scratch_bytes(const Plan *plan, Py_ssize_t images) noexcept nogil:
    """What a call needs, the direct algorithm's behind its own; negative: too much to address."""
    cdef Py_ssize_t n_bytes, direct = 0
    cdef Job job
    job.plan = plan
    job.images = images
    plan.divide(plan, &job)
    n_bytes = own_bytes(&job)
    if plan.direct is not NULL:
        # One image may be cut into more tasks than each of many.
        direct = max(scratch_bytes(plan.direct, images), scratch_bytes(plan.direct, 1))
    return -1 if n_bytes < 0 or n_bytes > PY_SSIZE_T_MAX - direct else n_bytes + direct


cdef Py_ssize_t own_bytes(const Job *job) noexcept nogil:
    """Padded bias, scratch of the workers, marks; negative: too much to address."""
    cdef Py_ssize_t shared = padded(bias_bytes(job.plan.geometry) + mark_bytes(job))
    if job.scratch_bytes > (PY_SSIZE_T_MAX - shared) // job.workers:
        return -1
    return shared + job.scratch_bytes * job.workers


cdef inline Py_ssize_t mark_bytes(const Job *job) noexcept nogil:
    return job.images * job.marks * job.mark_sets


cdef bint is_unsafe(const Job *job, Py_ssize_t image) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(job.mark_sets):
        if memchr(job.unsafe + (i * job.images + image) * job.marks, 1, job.marks) is not NULL:
            return True
    return False


cdef inline Py_ssize_t bias_bytes(const Geometry *g) noexcept nogil:
    return padded(g.groups * g.group_lanes * g.itemsize)


cdef void start_call(const Geometry *g, const Weights *weights, const char *bias, int activation,
                     double slope, char *padded_bias, Call *call) noexcept nogil:
    """Fills in `call`; the bias gets the packed filters' empty lanes, zeros when there is none."""
    cdef Py_ssize_t group
    memset(padded_bias, 0, g.groups * g.group_lanes * g.itemsize)
    if bias is not NULL:
        for group in range(g.groups):
            g.kernels.copy_bias(bias + group * g.group_oc * g.itemsize, g.group_oc,
                                padded_bias + group * g.group_lanes * g.itemsize)
    call.filters = weights.data
    call.amx = &weights.amx
    call.bias = padded_bias
    call.activation = activation
    call.slope = slope


cdef int workers_for(int threads, double products, Py_ssize_t tasks) noexcept nogil:
    """Threads for so many multiply-adds: each should have work for well over its wake-up."""
    if products < 2 * PRODUCTS_PER_THREAD:
        return 1
    threads = threads or num_threads()
    return <int> min(<double> min(threads, tasks), products / PRODUCTS_PER_THREAD)


# ---- convolution --------------------------------------------------------------------------------

cdef int plan_convolution(Convolution *c, int type, int parts) noexcept nogil:
    """Completes a convolution with a checked geometry; see `plan_geometry`. An `Outcome`."""
    cdef const Geometry *g = &c.geometry
    cdef int outcome = plan_geometry(&c.geometry, type, parts)
    if outcome != DONE:
        return outcome
    c.plan.geometry = g
    c.plan.result_bytes = g.y.out * g.x.out * g.oc * g.itemsize
    c.plan.divide = (divide_matrix if g.algorithm == AMX else
                     divide_tiles if g.algorithm == WINOGRAD else divide)
    c.plan.task = conv_task
    c.plan.threads = 0
    c.plan.direct = NULL
    if hands_back(g):
        c.direct_geometry = planned_directly(g)
        c.direct_plan = c.plan
        c.direct_plan.geometry = &c.direct_geometry
        c.direct_plan.divide = divide
        c.plan.direct = &c.direct_plan
    return DONE


cdef void free_convolution(Convolution *c) noexcept nogil:
    free_geometry(&c.geometry)


cdef Py_ssize_t band_rows(const Geometry *g) noexcept nogil:
    """Output rows that fit BAND_BYTES with their input, which each filter panel meets again."""
    cdef Py_ssize_t in_row = g.x.size * g.ic * g.itemsize, out_row = g.x.out * g.oc * g.itemsize
    cdef Py_ssize_t above = (g.y.kernel - 1) * g.y.dilation
    if above >= BAND_BYTES // max(in_row, 1):
        return min(g.y.out, 4)
    return max(1, min(g.y.out, (BAND_BYTES - above * in_row)
                      // max(g.y.stride * in_row + out_row, 1)))


cdef bint filters_outweigh(const Geometry *g) noexcept nogil:
    """Whether the filters, which each band of rows reads, are by far larger than the image, which
    each chunk of panels does."""
    return (<double> g.oc * g.products
            > 4 * (<double> g.y.size * g.x.size * g.ic + <double> g.y.out * g.x.out * g.oc))


cdef void count_tasks(const Geometry *g, Job *job) noexcept nogil:
    job.bands = ceil_div(g.y.out, job.rows)
    count_chunks(g, job)


cdef void count_chunks(const Geometry *g, Job *job) noexcept nogil:
    job.panel_chunks = ceil_div(g.panels, job.panels)
    job.tasks = job.images * job.bands * job.panel_chunks


cdef void split_panels(const Geometry *g, Job *job, Py_ssize_t wanted) noexcept nogil:
    while job.panels > 1 and job.tasks < wanted:
        job.panels = (job.panels + 1) // 2
        count_chunks(g, job)


cdef void divide(const Plan *plan, Job *job) noexcept nogil:
    """Cuts the work into tasks.  No result depends on the cuts."""
    cdef const Geometry *g = plan.geometry
    cdef int workers = workers_for(plan.threads, total_products(g, job.images), PY_SSIZE_T_MAX)
    # Some tasks a thread even out the load.
    cdef Py_ssize_t wanted = 4 * workers if workers > 1 else 1
    job.rows = band_rows(g)
    job.panels = g.panels
    count_tasks(g, job)
    if g.algorithm == DIRECT and filters_outweigh(g):
        split_panels(g, job, wanted)
    while job.rows > 4 and job.tasks < wanted:
        job.rows = (job.rows + 1) // 2
        count_tasks(g, job)
    if g.algorithm == DIRECT or g.algorithm == DOTS:
        split_panels(g, job, wanted)
    job.marks, job.mark_sets = job.bands * job.panel_chunks, 1
    job.workers = workers
    job.scratch_bytes = conv_scratch_bytes(g, g.x.out)


cdef void divide_matrix(const Plan *plan, Job *job) noexcept nogil:
    """`divide` for the matrix unit, which splits a task's rows and reads its filters anew.

    Of the cuts that give each thread a task or two, those that take the least time; images of many
    bands are cut into four a thread at least, to even out the load.
    """
    cdef const Geometry *g = plan.geometry
    cdef int workers = workers_for(plan.threads, total_products(g, job.images), PY_SSIZE_T_MAX)
    cdef double cycles, least = INFINITY
    cdef Py_ssize_t fewest = 1, bands, chunks, turns
    cdef Job cut
    job.rows, job.panels = g.y.out, g.panels
    job.workers = workers
    job.scratch_bytes = conv_scratch_bytes(g, g.x.out)
    job.mark_sets = 1
    count_tasks(g, job)
    if workers > 1:
        cut = job[0]
        if ceil_div(g.y.out, g.amx_image.rows) >= 4 * workers:
            fewest = 4 * workers
        for bands in range(fewest, min(g.y.out, fewest + 2 * workers) + 1):
            for turns in range(1, 3):
                chunks = min(ceil_div(turns * workers, job.images * bands), g.panels)
                cut.rows, cut.panels = ceil_div(g.y.out, bands), ceil_div(g.panels, chunks)
                count_tasks(g, &cut)
                cycles = ceil_div(cut.tasks, workers) * amx_cycles(g, cut.rows, cut.panels)
                if cycles < least:
                    least, job[0] = cycles, cut
    job.marks = job.bands * job.panel_chunks


cdef void divide_tiles(const Plan *plan, Job *job) noexcept nogil:
    """`divide` for winograd: images that are small share the packed filters."""
    cdef const Geometry *g = plan.geometry
    cdef int workers = workers_for(
        plan.threads, total_products(g, job.images) / 4, PY_SSIZE_T_MAX)
    cdef Py_ssize_t rows = job.images * tile_rows(g)
    cdef Py_ssize_t full = 2 * g.kernels.direct_pixels // tile_columns(g) + 1
    # Few large bands: each meets all filters anew, and each chunk of panels all pixels.
    job.rows = rows
    while job.rows > full and (rows - 1) // job.rows + 1 < 4 * workers and workers > 1:
        job.rows = (job.rows + 1) // 2
    job.bands = (rows - 1) // job.rows + 1
    job.panels = g.panels
    while job.panels > 1 and job.bands * ((g.panels - 1) // job.panels + 1) < workers:
        job.panels = (job.panels + 1) // 2
    job.panel_chunks = (g.panels - 1) // job.panels + 1
    job.tasks = job.bands * job.panel_chunks
    job.marks, job.mark_sets = tile_rows(g), job.panel_chunks
    job.workers = workers
    job.scratch_bytes = conv_scratch_bytes(g, g.x.out)


cdef void conv_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """Tasks count chunks of panels fastest, then bands, then images."""
    cdef Job *job = <Job *> context
    cdef const Geometry *g = job.plan.geometry
    cdef Py_ssize_t chunk = task % job.panel_chunks, band = task // job.panel_chunks % job.bands
    cdef Py_ssize_t image = task // job.panel_chunks // job.bands, rows
    cdef Block block
    block.top = band * job.rows
    block.bottom = min(block.top + job.rows, g.y.out)
    block.left, block.right = 0, g.x.out
    block.first_panel = chunk * job.panels
    block.last_panel = min(block.first_panel + job.panels, g.panels)
    if g.algorithm == WINOGRAD:
        # `image` is 0 here: the bands are those of the batch.
        rows = job.images * tile_rows(g)
        winograd_rows(
            g, &job.call, job.x, band * job.rows, min((band + 1) * job.rows, rows),
            block.first_panel, block.last_panel, job.out, job.scratch + worker * job.scratch_bytes,
            <unsigned char *> job.unsafe + chunk * rows)
        return
    job.unsafe[task] = conv_block(
        g, &job.call, job.x + image * g.y.size * g.x.size * g.ic * g.itemsize, &block,
        job.out + (image * g.y.out + block.top) * g.x.out * g.oc * g.itemsize, g.x.out * g.oc,
        False, job.scratch + worker * job.scratch_bytes)
