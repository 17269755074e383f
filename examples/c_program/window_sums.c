/* A C program that calls pycnn from threads of its own, none of which holds the GIL.
 *
 *     make && ./window_sums python3
 *
 * Python is embedded to load pycnn; its argument names the Python whose packages are used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <pycnn/pycnn.h>

enum { IMAGES = 8, SIDE = 64, FILTERS = 16, THREADS = 4 };

static const pycnn_api *pycnn;
static pycnn_plan *plan;
static pycnn_filters *filters;
static float images[IMAGES][SIDE][SIDE], maps[IMAGES][SIDE / 2][SIDE / 2][FILTERS];

static int failed(int status)
{
    if (status != PYCNN_OK)
        fprintf(stderr, "%s\n", pycnn->error_name(status));
    return status != PYCNN_OK;
}

/* Every THREADS-th image; all threads share the plan and the filters, each has its workspace. */
static void *some_images(void *first)
{
    size_t n_bytes;
    void *workspace;
    long i, wrong = 0;
    if (failed(pycnn->plan_workspace(plan, &n_bytes)) || (workspace = malloc(n_bytes)) == NULL)
        return (void *) 1;
    for (i = (long) first; i < IMAGES; i += THREADS)
        wrong += failed(pycnn->run_f32(plan, filters, images[i][0], NULL, maps[i][0][0], workspace,
                                       n_bytes));
    free(workspace);
    return (void *) wrong;
}

static int compute(void)
{
    pycnn_conv2d_params params = {.struct_size = sizeof params};
    float weights[FILTERS][3][3];
    pthread_t threads[THREADS];
    void *wrong;
    double sum = 0;
    long i, y, x, f, errors = 0;

    for (f = 0; f < FILTERS; f++)
        for (y = 0; y < 9; y++)
            weights[f][y / 3][y % 3] = (float) ((f + 1) * (y - 4));
    for (i = 0; i < IMAGES; i++)
        for (y = 0; y < SIDE; y++)
            for (x = 0; x < SIDE; x++)
                images[i][y][x] = (float) ((i + x * y) % 7);

    params.images = 1;
    params.height = params.width = SIDE;
    params.channels = 1;
    params.filters = FILTERS;
    params.kernel_height = params.kernel_width = 3;
    params.pad_top = params.pad_bottom = params.pad_left = params.pad_right = 1;
    params.num_threads = 1;
    if (failed(pycnn->plan_conv_relu_pool_f32(&params, &plan)) ||
        failed(pycnn->pack_f32(plan, weights[0][0], &filters)))
        return 1;
    for (i = 0; i < THREADS; i++)
        errors += pthread_create(&threads[i], NULL, some_images, (void *) i) != 0;
    for (i = 0; i < THREADS && errors == 0; i++) {
        pthread_join(threads[i], &wrong);
        errors += wrong != NULL;
    }
    pycnn->filters_destroy(filters);
    pycnn->plan_destroy(plan);
    for (i = 0; i < IMAGES; i++)
        for (y = 0; y < SIDE / 2; y++)
            for (x = 0; x < SIDE / 2; x++)
                for (f = 0; f < FILTERS; f++)
                    sum += maps[i][y][x][f];
    printf("%.0f\n", sum);
    return errors != 0;
}

int main(int argc, char **argv)
{
    PyConfig config;
    PyStatus status;
    int code = 1;
    PyConfig_InitPythonConfig(&config);
    status = PyConfig_SetBytesString(&config, &config.program_name, argc > 1 ? argv[1] : "python3");
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    pycnn = pycnn_import();
    if (pycnn == NULL)
        PyErr_Print();
    else {
        PyThreadState *thread = PyEval_SaveThread();
        code = compute();
        PyEval_RestoreThread(thread);
    }
    Py_Finalize();
    return code;
}
