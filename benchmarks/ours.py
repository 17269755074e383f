"""The adapter of pycnn itself: its public functions, nothing else."""

from layers import AvgPool, Conv, Dense, Flatten, GlobalAvgPool, MaxPool, Relu
from peers import Form, Peer, _chain


class PyCnn(Peer):
    """pycnn: filters packed once, a new result or a given one (``out=``)."""

    name = "pycnn"
    dtypes = frozenset({"float32", "float64"})
    pack = True

    def __init__(self, threads, precision):
        super().__init__(threads, precision)
        import pycnn
        from pycnn import conv2d  # noqa: F401  (a folder of that name is not the package)

        self.pycnn = pycnn
        if hasattr(pycnn, "set_num_threads"):
            pycnn.set_num_threads(threads)

    def versions(self):
        return f"pycnn {self.pycnn.__version__}"

    def forms(self, layer, data):
        name = "packed" if self.pack else "arrays"
        x = data.x
        # One image has no batch axis, and a grey one no channel axis.
        single = len(x) == 1 and x.ndim == 4
        if single:
            x = x[0]
        grey = single and x.shape[-1] == 1 and isinstance(layer.ops[0], Conv)
        if grey:
            x = x[..., 0]
        steps = self._steps(layer, data, grey)
        ends_single = single and Flatten() not in layer.ops

        def result(y):
            return y[None] if ends_single else y

        calls = [self._call(*step) for step in steps]
        yield Form(name, _chain(x, calls), result)
        if self.pack and layer.fused and len(layer.ops) > 1:
            network = self._network(layer, data, grey)
            yield Form("network", _chain(x, [network]), lambda y: y[None] if single else y)
        if len(steps) == 1 and not isinstance(layer.ops[0], GlobalAvgPool):
            function, args, options = steps[0]
            run = self._call(function, args, options | {"out": calls[0](x)})
            yield Form(f"{name}, out=", _chain(x, [run]), result)

    @staticmethod
    def _call(function, args, options):
        if not options:
            return (lambda x: function(x, *args)) if args else function
        return lambda x: function(x, *args, **options)

    def _steps(self, layer, data, grey):
        """List of (function, positional arguments after x, keywords)."""
        ops = list(zip(layer.ops, data.params, strict=True))
        steps = []
        while ops:
            op, (weights, bias) = ops.pop(0)
            if not isinstance(op, Conv | Dense):
                steps.append(self._simple(op))
                continue
            options = {}
            if layer.fused and ops and ops[0][0] == Relu():
                ops.pop(0)
                options["activation"] = "relu"
            if isinstance(op, Dense):
                steps.append((self.pycnn.dense, (weights, bias), options))
                continue
            if grey:
                weights, grey = weights[..., 0], False
            options |= self._conv_options(op)
            function = self.pycnn.conv2d
            if "activation" in options and ops and isinstance(ops[0][0], MaxPool):
                pool, _ = ops.pop(0)
                function = self.pycnn.conv_relu_pool
                options |= {"pool_size": pool.size, "pool_stride": pool.stride}
                del options["activation"]
            filters = self.pycnn.PackedFilters(weights) if self.pack else weights
            args = (filters,) if bias is None else (filters, bias)
            steps.append((function, args, options))
        return steps

    def _network(self, layer, data, grey):
        layers = []
        for op, (weights, bias) in zip(layer.ops, data.params, strict=True):
            match op:
                case Conv():
                    weights, grey = (weights[..., 0] if grey else weights), False
                    options = self._conv_options(op)
                    layers.append(self.pycnn.Conv2D.from_arrays(weights, bias, **options))
                case Dense():
                    layers.append(self.pycnn.Dense.from_arrays(weights, bias))
                case MaxPool():
                    layers.append(self.pycnn.MaxPool2D(op.size, op.stride))
                case Relu():
                    layers.append(self.pycnn.ReLU())
                case Flatten():
                    layers.append(self.pycnn.Flatten())
                case _:
                    raise TypeError(f"not a layer of a network: {op!r}")
        return self.pycnn.Sequential(layers)

    def _conv_options(self, op):
        options = {}
        for keyword, usual in (("stride", 1), ("groups", 1)):
            if getattr(op, keyword) != usual:
                options[keyword] = getattr(op, keyword)
        if op.padding:
            options["padding"] = op.padding
        if self.precision != "highest":
            options["precision"] = self.precision
        return options

    def _simple(self, op):
        match op:
            case MaxPool():
                return self.pycnn.max_pool2d, (op.size, op.stride), {}
            case AvgPool():
                return self.pycnn.avg_pool2d, (op.size, op.stride), {}
            case GlobalAvgPool():
                return self.pycnn.global_avg_pool2d, (), {}
            case Relu():
                return self.pycnn.relu, (), {}
            case Flatten():
                return self._flatten, (), {}
        raise TypeError(f"not an operation: {op!r}")

    @staticmethod
    def _flatten(x):
        # Three axes are one image; a batch of one keeps dense layers at rank two.
        return x.reshape(1 if x.ndim == 3 else len(x), -1)


class PyCnnCall(PyCnn):
    """pycnn with plain arrays as filters, so that each call packs them."""

    name = "pycnn-call"
    pack = False

    def applies(self, layer):
        return super().applies(layer) and any(isinstance(op, Conv) for op in layer.ops)


OURS = (PyCnn, PyCnnCall)
