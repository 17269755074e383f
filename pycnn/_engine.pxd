"""What the loops share: the C kernels of the chosen instruction set, and the threads."""

from libc.stdint cimport uintptr_t

cdef extern from "amx.h" nogil:
    ctypedef struct pycnn_amx_filters:
        Py_ssize_t n_filters, kh, kw, channels
        int parts, whole
        Py_ssize_t taps_y, tiles, panels, panel_bytes, packed_bytes

    ctypedef struct pycnn_amx_image:
        Py_ssize_t height, width, out_height, out_width
        Py_ssize_t stride_y, stride_x, pad_top, pad_left
        Py_ssize_t rows, columns, row_places, band_bytes

    ctypedef struct pycnn_amx_result:
        float *out
        Py_ssize_t row_step, pixel_step
        const float *bias
        int activation
        float slope

    ctypedef struct pycnn_amx_kernels:
        int (*plan_filters)(pycnn_amx_filters *) noexcept nogil
        int (*pack)(pycnn_amx_filters *, const float *, void *) noexcept nogil
        void (*plan_image)(const pycnn_amx_filters *, pycnn_amx_image *) noexcept nogil
        Py_ssize_t (*split)(const pycnn_amx_filters *, const pycnn_amx_image *, const float *,
                            Py_ssize_t, Py_ssize_t, void *, unsigned char *) noexcept nogil
        void (*multiply)(const pycnn_amx_filters *, const pycnn_amx_image *, const void *,
                         const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                         const pycnn_amx_result *) noexcept nogil

cdef extern from "kernels.h" nogil:
    enum:
        PYCNN_f32, PYCNN_f64, PYCNN_i8, PYCNN_u8, PYCNN_i16, PYCNN_u16, PYCNN_i32, PYCNN_u32
        PYCNN_i64, PYCNN_u64, PYCNN_TYPE_COUNT
        PYCNN_LINEAR, PYCNN_RELU, PYCNN_LEAKY_RELU

    ctypedef struct pycnn_tap:
        Py_ssize_t x
        Py_ssize_t w

    ctypedef struct pycnn_line:
        const void *x
        const void *w
        const void *bias
        void *out
        const pycnn_tap *taps
        Py_ssize_t n_taps
        Py_ssize_t run
        Py_ssize_t w_step
        Py_ssize_t w_ahead
        Py_ssize_t panel_step
        Py_ssize_t n_pixels
        Py_ssize_t n_filters
        Py_ssize_t x_step
        Py_ssize_t out_step
        int activation
        double slope

    const int DIRECT_PANELS
    const int BATCH_PIXELS
    const int DOTS_FILTERS

    const int PLANES_ROWS
    const int PLANES_FILTERS
    const int PLANES_POOL_FILTERS

    ctypedef struct pycnn_planes:
        const void *x
        const void *w
        const void *bias
        void *out
        const Py_ssize_t *taps
        Py_ssize_t n_taps, taps_y
        Py_ssize_t w_step
        bint share_rows, pool
        Py_ssize_t n_rows, n_pixels, n_filters
        Py_ssize_t x_row, out_row
        Py_ssize_t out_plane, out_step
        int activation
        double slope

    const int DEPTHWISE_ROWS

    ctypedef struct pycnn_depthwise:
        const void *x
        const void *w
        const void *bias
        void *out
        void *ring
        Py_ssize_t height, width, channels
        Py_ssize_t first_row, end_row, first_column, end_column
        Py_ssize_t top, left
        Py_ssize_t x_row, out_row
        Py_ssize_t taps_y, taps_x, stride_y, stride_x
        int activation
        double slope

    ctypedef struct pycnn_windows:
        const void *x
        void *out
        Py_ssize_t row_step, rows
        Py_ssize_t tap_step, taps
        Py_ssize_t pixel_step, pixels
        Py_ssize_t channels
        double count, reciprocal

    ctypedef struct pycnn_winograd:
        const void *x
        const void *w
        const void *bias
        void *out
        void *scratch
        unsigned char *retry
        Py_ssize_t scratch_size
        Py_ssize_t height, width, channels, filters
        Py_ssize_t out_height, out_width
        Py_ssize_t top, left
        Py_ssize_t x_row, out_row, x_image, out_image
        Py_ssize_t first_row, end_row, first_panel, end_panel
        int tile
        int activation
        double slope

    ctypedef struct pycnn_kernels:
        Py_ssize_t lanes
        Py_ssize_t direct_pixels
        void (*copy_bias)(const void *, Py_ssize_t, void *) noexcept nogil
        void (*direct)(const pycnn_line *) noexcept nogil
        void (*multiply)(const pycnn_line *) noexcept nogil
        void (*multiply_batch)(const pycnn_line *) noexcept nogil
        void (*dots)(const pycnn_line *) noexcept nogil
        void (*dots_columns)(const pycnn_line *) noexcept nogil
        void (*planes)(const pycnn_planes *) noexcept nogil
        void (*depthwise_line)(const pycnn_line *) noexcept nogil
        void (*depthwise_rows)(const pycnn_depthwise *) noexcept nogil
        void (*winograd_pack)(const void *, Py_ssize_t, Py_ssize_t, int, void *) noexcept nogil
        void (*winograd)(const pycnn_winograd *) noexcept nogil
        void (*transpose)(const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *,
                          Py_ssize_t) noexcept nogil
        void (*split)(const void *, Py_ssize_t, Py_ssize_t, void *, Py_ssize_t) noexcept nogil
        void (*interleave)(const void *, Py_ssize_t, Py_ssize_t, void *,
                           Py_ssize_t) noexcept nogil
        void (*max_windows)(const pycnn_windows *) noexcept nogil
        void (*mean_windows)(const pycnn_windows *) noexcept nogil
        void (*compact)(const void *, Py_ssize_t, void *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*relu)(const void *, void *, Py_ssize_t, bint) noexcept nogil
        void (*leaky_relu)(const void *, double, void *, Py_ssize_t, bint) noexcept nogil

    ctypedef struct pycnn_level:
        const char *name
        int (*available)() noexcept nogil
        int (*enable)() noexcept nogil
        const pycnn_kernels *kernels
        const pycnn_amx_kernels *amx

    const pycnn_level pycnn_levels[]
    const int pycnn_level_count

cdef extern from "threads.h" nogil:
    enum:
        PYCNN_MAX_THREADS

    ctypedef void (*pycnn_task)(void *context, Py_ssize_t task, int worker) noexcept nogil

    int pycnn_parallel(Py_ssize_t n_tasks, pycnn_task task, void *context,
                       int max_workers) noexcept
    int pycnn_get_num_threads() noexcept
    void pycnn_set_num_threads(int n) noexcept
    int pycnn_thread_limit() noexcept
    void pycnn_set_thread_limit(int n) noexcept
    void pycnn_set_cpu_count(int n) noexcept
    int pycnn_affinity_cpus() noexcept
    const int pycnn_has_threads

    void *pycnn_publish(void **place, void *value) noexcept


# How a step without the GIL ends.
cdef enum Outcome:
    DONE, NO_MEMORY, TOO_MANY_SPANS


cdef int check(int outcome) except -1
cdef const pycnn_kernels *kernels_of(int type_index) noexcept nogil
cdef const pycnn_amx_kernels *amx_kernels() noexcept nogil
cdef int type_index(int type_num) noexcept nogil
cdef void *aligned_alloc(Py_ssize_t n_bytes) noexcept nogil
cdef void aligned_free(void *start) noexcept nogil

cdef enum:
    CACHE_LINE = 64
    LINE_ROOM = sizeof(void *) + CACHE_LINE     # of a block, besides what begins a line in it


cdef inline Py_ssize_t padded(Py_ssize_t n_bytes) noexcept nogil:
    """To whole cache lines."""
    return (n_bytes + CACHE_LINE - 1) & ~(CACHE_LINE - 1)


cdef inline char *line_in(char *block) noexcept nogil:
    return <char *> ((<uintptr_t> block + LINE_ROOM - 1) & ~<uintptr_t> (CACHE_LINE - 1))


cdef inline void *begin_line(char *block) noexcept nogil:
    """The line in a block, with the block's own start before it; NULL in none."""
    if block is NULL:
        return NULL
    (<char **> line_in(block))[-1] = block
    return line_in(block)


cdef inline char *block_of(void *line) noexcept nogil:
    return (<char **> line)[-1]


# Only _engine links threads.c; the other modules call it through these.
cdef int num_threads() noexcept nogil
cdef int workers_to_read(double n_bytes, int threads) noexcept nogil
cdef int parallel(Py_ssize_t n_tasks, pycnn_task task, void *context,
                  int max_workers) noexcept nogil
