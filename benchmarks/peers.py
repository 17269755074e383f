"""One adapter for each library that takes part.

An adapter prepares a layer in one or more forms: everything that a user of that library does once
(converting layouts, packing weights, compiling a graph) happens while the form is made, and what
remains is a callable that computes the layer.  Each library is timed in its fastest form.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from graphs import (
    channels_first,
    channels_last,
    ncnn_model,
    onnx_model,
    onnx_output_shape,
    planar_params,
)
from layers import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Relu,
    input_shapes,
    output_shape,
)


@dataclass(frozen=True)
class Form:
    """One way in which a library can compute a layer.

    Attributes
    ----------
    name : str
        What distinguishes it from the other forms of the same library.
    run : callable
        Computes the layer and returns the result in the library's own type.
    result : callable
        Turns what `run` returned into a NumPy array, channel-last.
    keep : object, optional
        What the library reads but does not hold a reference to.
    """

    name: str
    run: Callable[[], object]
    result: Callable[[object], np.ndarray]
    keep: object = None


class Peer:
    """What all adapters have in common.

    Parameters
    ----------
    threads : int
    precision : {"highest", "high", "medium"}
        pycnn's word.  At ``"medium"`` the peers that can compute with bfloat16 do.

    Raises
    ------
    ImportError
        When the library is not installed.

    Attributes
    ----------
    name : str
        Heading of its column.
    packages : tuple of str
        Distributions whose versions are reported.
    dtypes : frozenset of str
        What it can compute with.
    """

    name = ""
    packages: tuple[str, ...] = ()
    dtypes = frozenset({"float32"})

    def __init__(self, threads, precision):
        self.threads = threads
        self.precision = precision

    def versions(self):
        """Versions of the library's distributions, as text."""
        found = []
        for package in self.packages:
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                found.append(f"{package} (version unknown)")
        return ", ".join(found)

    def applies(self, layer):
        """Whether the library can compute this layer, and it makes sense to ask it to."""
        return layer.dtype in self.dtypes

    def sums_directly(self, layer):
        """Whether its error has the bound of a direct sum of products, at ``"highest"``."""
        return True

    def forms(self, layer, data):
        """Yield a `Form` for each way to compute the layer."""
        raise NotImplementedError


def _chain(x, steps):
    """Return a callable that sends `x` through functions of one argument."""
    if len(steps) == 1:
        (step,) = steps
        return lambda: step(x)

    def run():
        value = x
        for step in steps:
            value = step(value)
        return value

    return run


class Torch(Peer):
    """PyTorch, eager, contiguous ``(N, C, H, W)`` tensors."""

    name = "torch"
    packages = ("torch",)
    dtypes = frozenset({"float32", "float64"})
    memory_format = "contiguous_format"

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        reduced = "bf16" if precision == "medium" else "ieee"
        torch.backends.mkldnn.conv.fp32_precision = reduced
        torch.backends.mkldnn.matmul.fp32_precision = reduced
        # Entered once and for all: entering it in each call would be timed.
        self._inference = torch.inference_mode()
        self._inference.__enter__()

    def forms(self, layer, data):
        x = self._tensor(channels_first(data.x))
        params = planar_params(layer, data)
        steps = [self._step(op, *pair) for op, pair in zip(layer.ops, params, strict=True)]
        yield Form("functional", _chain(x, steps), self._array)
        if layer.ops == (Relu(),):
            out = self.torch.empty_like(x)
            run = self.torch.clamp_min
            yield Form("clamp_min, out=", lambda: run(x, 0, out=out), self._array)

    def _tensor(self, array):
        if array is None:
            return None
        tensor = self.torch.from_numpy(array)
        if tensor.dim() == 4:
            memory_format = getattr(self.torch, self.memory_format)
            return tensor.to(memory_format=memory_format)
        return tensor

    @staticmethod
    def _array(tensor):
        return channels_last(tensor.numpy())

    def _step(self, op, weights, bias):
        functional = self.torch.nn.functional
        w, b = self._tensor(weights), self._tensor(bias)
        match op:
            case Conv():
                return lambda x: functional.conv2d(x, w, b, op.stride, op.padding, 1, op.groups)
            case MaxPool():
                return lambda x: functional.max_pool2d(x, op.size, op.stride)
            case AvgPool():
                return lambda x: functional.avg_pool2d(x, op.size, op.stride)
            case GlobalAvgPool():
                return lambda x: x.mean((2, 3))
            case Relu():
                return self.torch.relu
            case Flatten():
                return lambda x: x.flatten(1)
            case Dense():
                return lambda x: functional.linear(x, w, b)
        raise TypeError(f"not an operation: {op!r}")


class TorchChannelsLast(Torch):
    """PyTorch, eager, tensors in its channels-last memory format."""

    name = "torch-cl"
    memory_format = "channels_last"

    def applies(self, layer):
        return super().applies(layer) and len(layer.shape) == 4


class TorchMkldnn(Torch):
    """PyTorch with weights packed by ``torch.utils.mkldnn`` and input in oneDNN's own layout."""

    name = "torch-mkldnn"
    dtypes = frozenset({"float32"})

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        from torch.utils import mkldnn

        self.to_mkldnn = mkldnn.to_mkldnn

    def applies(self, layer):
        # Sequential models only; a mean over height and width is not a module.
        return super().applies(layer) and GlobalAvgPool() not in layer.ops

    def forms(self, layer, data):
        modules = [
            self._module(op, shape, *pair)
            for op, shape, pair in zip(
                layer.ops, input_shapes(layer), planar_params(layer, data), strict=True
            )
        ]
        model = self.torch.nn.Sequential(*modules).eval()
        packed = self.to_mkldnn(model)
        steps = list(packed)
        x = self.torch.from_numpy(channels_first(data.x)).to_mkldnn()
        yield Form("packed", _chain(x, steps), lambda y: channels_last(y.to_dense().numpy()))

    def _module(self, op, shape, weights, bias):
        nn = self.torch.nn
        match op:
            case Conv():
                module = nn.Conv2d(
                    shape[-1],
                    op.filters,
                    op.size,
                    op.stride,
                    op.padding,
                    groups=op.groups,
                    bias=bias is not None,
                )
            case Dense():
                module = nn.Linear(shape[-1], op.units)
            case MaxPool():
                return nn.MaxPool2d(op.size, op.stride)
            case AvgPool():
                return nn.AvgPool2d(op.size, op.stride)
            case Relu():
                return nn.ReLU()
            case Flatten():
                return nn.Flatten()
            case _:
                raise TypeError(f"no module for {op!r}")
        module.weight.copy_(self.torch.from_numpy(weights))
        if bias is not None:
            module.bias.copy_(self.torch.from_numpy(bias))
        return module


class OnnxRuntime(Peer):
    """ONNX Runtime: with and without its blocked layout, called plainly and with bound arrays."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx")

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        import onnx  # noqa: F401  (writes the models)
        import onnxruntime

        self.runtime = onnxruntime

    def forms(self, layer, data):
        model = onnx_model(layer, data)
        x = channels_first(data.x)
        levels = self.runtime.GraphOptimizationLevel
        for name, level in (
            ("blocked layout", levels.ORT_ENABLE_ALL),
            ("plain layout", levels.ORT_ENABLE_EXTENDED),
        ):
            options = self.runtime.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
            options.graph_optimization_level = level
            # Warnings that a fallback layout is used say nothing to the reader of a table.
            options.log_severity_level = 3
            session = self.runtime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
            yield self._bound_form(f"{name}, bound", session, x, layer)
            yield Form(
                name,
                partial(self._first, session, {"x": x}),
                lambda y: self._array(layer, y),
            )

    def _bound_form(self, name, session, x, layer):
        y = self.runtime.OrtValue.ortvalue_from_shape_and_type(
            onnx_output_shape(layer), np.float32, "cpu"
        )
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", self.runtime.OrtValue.ortvalue_from_numpy(x))
        binding.bind_ortvalue_output("y", y)

        def run():
            session.run_with_iobinding(binding)
            return y

        return Form(name, run, lambda value: self._array(layer, value.numpy()))

    @staticmethod
    def _first(session, feed):
        return session.run(["y"], feed)[0]

    @staticmethod
    def _array(layer, y):
        if isinstance(layer.ops[-1], GlobalAvgPool):
            return y.reshape(y.shape[:2])
        return channels_last(y)


class OpenVino(Peer):
    """OpenVINO: tensors channel-first or channel-last, float32 inside."""

    name = "openvino"
    packages = ("openvino", "onnx")

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        import onnx  # noqa: F401  (writes the models)
        import openvino

        self.openvino = openvino
        self.core = openvino.Core()
        self.properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Its own choice would be bfloat16 where the CPU has it.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "medium" else "f32",
            # Pinned threads would sit on the cores of the other contenders' threads.
            "ENABLE_CPU_PINNING": False,
        }

    def forms(self, layer, data):
        model = onnx_model(layer, data)
        yield self._form("NCHW", layer, channels_first(data.x), self._compile(model))
        if len(layer.shape) == 4 and len(onnx_output_shape(layer)) == 4:
            compiled = self._compile(model, "NHWC")
            yield self._form("NHWC", layer, np.ascontiguousarray(data.x), compiled)

    def _compile(self, model, layout=None):
        graph = self.core.read_model(model)
        if layout is not None:
            from openvino import Layout
            from openvino.preprocess import PrePostProcessor

            steps = PrePostProcessor(graph)
            for side in (steps.input(), steps.output()):
                side.tensor().set_layout(Layout(layout))
                side.model().set_layout(Layout("NCHW"))
            graph = steps.build()
        return self.core.compile_model(graph, "CPU", self.properties)

    def _form(self, name, layer, x, compiled):
        request = compiled.create_infer_request()
        source = self.openvino.Tensor(x, shared_memory=True)
        request.set_input_tensor(source)
        y = request.get_output_tensor()

        def run():
            request.infer()
            return y

        def result(tensor):
            array = tensor.data
            if isinstance(layer.ops[-1], GlobalAvgPool):
                return array.reshape(len(array), -1)
            return array if name == "NHWC" else channels_last(array)

        return Form(name, run, result, keep=(x, source))


class Ncnn(Peer):
    """ncnn through its Python binding, everything at its defaults but 16-bit storage."""

    name = "ncnn"
    packages = ("ncnn",)
    winograd = True

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        import ncnn

        self.ncnn = ncnn
        # Without these every intermediate image is allocated anew.  They outlive all images.
        self._blobs = ncnn.UnlockedPoolAllocator()
        self._workspace = ncnn.PoolAllocator()

    def sums_directly(self, layer):
        return not (self.winograd and _winograd_may_serve(layer))

    def forms(self, layer, data):
        net = self.ncnn.Net()
        self._configure(net.opt)
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "layer.param"), Path(folder, "layer.bin")
            text, blobs = ncnn_model(layer, data)
            paths[0].write_text(text)
            paths[1].write_bytes(blobs)
            for status in (net.load_param(str(paths[0])), net.load_model(str(paths[1]))):
                if status != 0:
                    raise RuntimeError(f"ncnn: cannot load the model of {layer.name}")
        # It takes images one by one, but the rows of a matrix together.
        inputs = list(channels_first(data.x)) if data.x.ndim == 4 else [data.x]
        yield self._form("plain", net, [self.ncnn.Mat(x).clone() for x in inputs], unpack=True)
        lanes = next((n for n in (16, 8, 4) if layer.shape[-1] % n == 0), None)
        if data.x.ndim == 4 and lanes is not None:
            mats = [self.ncnn.convert_packing(self.ncnn.Mat(x), lanes, net.opt) for x in inputs]
            yield self._form("packed", net, mats, unpack=False)

    def _configure(self, options):
        options.num_threads = self.threads
        options.use_vulkan_compute = False
        options.use_fp16_packed = False
        options.use_fp16_storage = False
        options.use_fp16_arithmetic = False
        options.use_bf16_storage = options.use_bf16_packed = self.precision == "medium"
        options.use_winograd_convolution = self.winograd
        options.blob_allocator = self._blobs
        options.workspace_allocator = self._workspace

    def _form(self, name, net, mats, unpack):
        # Nothing is left to convert when the caller accepts ncnn's packed layout.
        kind = 0 if unpack else 1

        def run():
            results = []
            for mat in mats:
                extractor = net.create_extractor()
                extractor.input("x", mat)
                status, y = extractor.extract("y", kind)
                if status != 0:
                    raise RuntimeError(f"ncnn: extract returned {status}")
                results.append(y)
            return results

        def result(values):
            arrays = []
            for mat in values:
                if mat.elempack != 1:
                    mat = self.ncnn.convert_packing(mat, 1)
                arrays.append(mat.numpy().copy())
            if arrays[0].ndim == 2:
                return arrays[0]
            return channels_last(np.stack(arrays))

        return Form(name, run, result)


def _winograd_may_serve(layer):
    """Whether the layer has a convolution for which ncnn may use Winograd's transforms."""
    return any(
        isinstance(op, Conv) and (op.size, op.stride, op.groups) == (3, 1, 1) for op in layer.ops
    )


class NcnnDirect(Ncnn):
    """ncnn with Winograd's transforms switched off, where they would be used."""

    name = "ncnn-direct"
    winograd = False

    def applies(self, layer):
        return super().applies(layer) and _winograd_may_serve(layer)


class OpenCv(Peer):
    """OpenCV's filter2D, once for each pair of channel and filter; threshold for ReLU."""

    name = "opencv"
    packages = ("opencv-python-headless",)
    dtypes = frozenset({"float32", "float64"})

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        import cv2

        self.cv2 = cv2
        cv2.setNumThreads(threads)

    def applies(self, layer):
        if layer.ops == (Relu(),):
            return True
        (op, *others), (n, *_, channels) = layer.ops, layer.shape
        if others or not isinstance(op, Conv) or op.stride != 1 or n != 1:
            return False
        return op.filters * channels // op.groups <= 48

    def forms(self, layer, data):
        if layer.ops == (Relu(),):
            image = data.x[0].reshape(data.x.shape[1], -1)
            out = np.empty_like(image)
            threshold, to_zero = self.cv2.threshold, self.cv2.THRESH_TOZERO
            yield Form(
                "threshold",
                lambda: threshold(image, 0, 0, to_zero, out)[1],
                lambda y: y.reshape(data.x.shape),
            )
            return
        (op,), ((weights, bias),) = layer.ops, data.params
        planes = list(channels_first(data.x)[0])
        biases = np.zeros(op.filters) if bias is None else bias
        # Column c of a filter reads the channel `first + c` of the image.
        plan = []
        for f in range(op.filters):
            first = f * op.groups // op.filters * weights.shape[-1]
            kernels = [np.ascontiguousarray(weights[f, :, :, c]) for c in range(weights.shape[-1])]
            plan.append((planes[first : first + len(kernels)], kernels, float(biases[f])))
        oh, ow = output_shape(op, layer.shape)[1:3]
        corner = op.size // 2 - op.padding
        window = slice(corner, corner + oh), slice(corner, corner + ow)
        filter2d, add, border = self.cv2.filter2D, self.cv2.add, self.cv2.BORDER_CONSTANT

        def run():
            maps = []
            for sources, kernels, delta in plan:
                total = filter2d(sources[0], -1, kernels[0], None, (-1, -1), delta, border)
                for source, kernel in zip(sources[1:], kernels[1:], strict=True):
                    add(total, filter2d(source, -1, kernel, None, (-1, -1), 0, border), total)
                maps.append(total[window])
            return maps

        yield Form("filter2D", run, lambda maps: np.stack(maps, axis=-1)[None])


class SciPy(Peer):
    """SciPy's correlations for small convolutions; NumPy for pools, ReLU and dense layers."""

    name = "scipy"
    packages = ("scipy", "numpy")
    dtypes = frozenset({"float32", "float64"})

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        from scipy import ndimage, signal
        from threadpoolctl import threadpool_limits

        self.ndimage, self.signal = ndimage, signal
        self._limits = threadpool_limits(threads)

    def applies(self, layer):
        if layer.shape[0] != 1 and any(isinstance(op, Conv) for op in layer.ops):
            return False
        return all(
            op.stride == op.groups == 1 and op.padding == 0 and op.filters * shape[-1] <= 16
            for op, shape in zip(layer.ops, input_shapes(layer), strict=True)
            if isinstance(op, Conv)
        )

    def forms(self, layer, data):
        # Correlations work on separate planes, the rest on (N, H, W, C).
        convolves = isinstance(layer.ops[0], Conv)
        makers = [("", None)]
        if convolves:
            makers = [("ndimage", self._ndimage), ("direct", self._signal), ("fft", self._fft)]
        x = channels_first(data.x) if convolves else data.x
        axes = (2, 3) if convolves else (1, 2)
        for name, correlate in makers:
            steps = [
                self._step(op, axes, correlate, *pair)
                for op, pair in zip(layer.ops, data.params, strict=True)
            ]
            yield Form(name, _chain(x, steps), channels_last if convolves else np.asarray)

    def _ndimage(self, plane, kernel):
        # Computes the borders as well; they are cut away.
        whole = self.ndimage.correlate(plane, kernel, mode="constant")
        before = kernel.shape[0] // 2
        size = [n - kernel.shape[0] + 1 for n in plane.shape]
        return whole[before : before + size[0], before : before + size[1]]

    def _signal(self, plane, kernel):
        return self.signal.correlate2d(plane, kernel, mode="valid")

    def _fft(self, plane, kernel):
        return self.signal.correlate(plane, kernel, mode="valid", method="fft")

    def _step(self, op, axes, correlate, weights, bias):
        match op:
            case Conv():
                kernels = [
                    [np.ascontiguousarray(weights[f, :, :, c]) for c in range(weights.shape[-1])]
                    for f in range(op.filters)
                ]
                biases = [0] * op.filters if bias is None else bias
                return lambda x: np.stack(
                    [
                        sum(correlate(*pair) for pair in zip(x[0], row, strict=True)) + b
                        for row, b in zip(kernels, biases, strict=True)
                    ]
                )[None]
            case MaxPool():
                return lambda x: _reduce_windows(np.maximum, x, op, axes)
            case AvgPool():
                return lambda x: _reduce_windows(np.add, x, op, axes) * x.dtype.type(op.size**-2)
            case GlobalAvgPool():
                return lambda x: x.mean(axes)
            case Relu():
                return lambda x: np.maximum(x, 0)
            case Flatten():
                return lambda x: x.transpose(0, 2, 3, 1).reshape(len(x), -1)
            case Dense():
                return lambda x: x @ weights + bias
        raise TypeError(f"not an operation: {op!r}")


def _reduce_windows(function, x, op, axes):
    """Combine the taps of all windows, first along columns and then along rows."""
    for axis in axes:
        count = (x.shape[axis] - op.size) // op.stride + 1
        views = []
        for tap in range(op.size):
            index = [slice(None)] * x.ndim
            index[axis] = slice(tap, tap + (count - 1) * op.stride + 1, op.stride)
            views.append(x[tuple(index)])
        x = function(views[0], views[1])
        for view in views[2:]:
            function(x, view, out=x)
    return x


PEERS = (
    Torch,
    TorchChannelsLast,
    TorchMkldnn,
    OnnxRuntime,
    OpenVino,
    Ncnn,
    NcnnDirect,
    OpenCv,
    SciPy,
)
