"""One call: a plan over a batch of images, in tasks for the threads, without the GIL."""

from pycnn._engine cimport pycnn_task
from pycnn._geometry cimport Call, Geometry
from pycnn._plan cimport Weights


cdef struct Job


cdef struct Plan:
    const Geometry *geometry
    Py_ssize_t result_bytes         # of one image
    int threads                     # the most of a call; 0: what num_threads() says then
    void (*divide)(const Plan *plan, Job *job) noexcept nogil   # fills in the job's second part
    pycnn_task task                 # its context is the job
    const Plan *direct              # for images its algorithm hands back; NULL: it takes them all


cdef struct Job:
    const Plan *plan
    Call call
    const char *x
    char *out
    Py_ssize_t images
    char *scratch
    char *unsafe                    # not 0: compute the image directly

    Py_ssize_t tasks
    int workers
    Py_ssize_t scratch_bytes        # of one worker
    Py_ssize_t marks, mark_sets     # bytes of an image in `unsafe`, how often it has all
    # A convolution's output rows of a band, bands of an image; winograd: rows of tiles, bands of
    # the batch. Then panels of a task, tasks of a band.
    Py_ssize_t rows, bands
    Py_ssize_t panels, panel_chunks


cdef struct Convolution:
    Plan plan, direct_plan
    Geometry geometry, direct_geometry


cdef int plan_convolution(Convolution *c, int type, int parts) noexcept nogil
cdef void free_convolution(Convolution *c) noexcept nogil
cdef int workers_for(int threads, double products, Py_ssize_t tasks) noexcept nogil
cdef void count_chunks(const Geometry *g, Job *job) noexcept nogil
cdef Py_ssize_t scratch_bytes(const Plan *plan, Py_ssize_t images) noexcept nogil
cdef int run(const Plan *plan, Weights *weights, const char *x, const char *bias, int activation,
             double slope, char *out, Py_ssize_t images, char *scratch) noexcept nogil
