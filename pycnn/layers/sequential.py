"""Sequential: layers one behind the other, run as few fused calls."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, ClassVar, overload

import numpy as np

from pycnn import _checks
from pycnn._repeat import LastCall, repeat
from pycnn.activations import apply
from pycnn.layers import _layer, _model
from pycnn.layers._batches import batches_of, gathered, with_bar
from pycnn.layers._plan import Plan
from pycnn.layers._summary import Row, Summary

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, SupportsIndex

    from pycnn._typing import Activation, Array, ArrayLike, Shape

# Sample shapes whose plans are kept; a plan is a list of a few calls.
_MAX_PLANS = 64


def _copy(x: Array) -> Array:
    """A new array, in native bytes as all results."""
    return x.astype(x.dtype.newbyteorder("="))


class Sequential(_layer.Layer, loadable=True):
    """A network: layers one behind the other.

    Call it with one sample or with a batch, ``net(x)``. What neighbouring layers do is done in one
    pass over the image where the engine can: a convolution with the batch normalisation,
    activation and pooling behind it.

    Parameters
    ----------
    layers : sequence of Layer
        Other networks may be among them.
    input_shape : tuple of int, optional
        ``(H, W)``, ``(H, W, C)`` or ``(n,)`` of one sample, to build all layers now instead of on
        first input.
    name : str, optional
    metadata : dict, optional
        What else is to be saved with the network, such as the names of classes: what JSON holds.

    Attributes
    ----------
    layers : tuple of Layer
    names : tuple of str
        Their names in this network: their own, or ``conv2d_1``, ``conv2d_2`` and so on.
        ``net[name]`` and ``net[index]`` are a layer, ``net[start:stop]`` is a network of those
        layers, which share their parameters with this one's.
    input_shape : tuple of int, or None before the network is built
        Of one sample. Other sizes may be given later, if the layers take them, but not another
        number of dimensions: it tells a sample from a batch.
    metadata : dict or None

    Raises
    ------
    ValueError
        Layers that do not fit each other or the input; the sentence names the layer and the shapes.
        Two layers of one name; networks nested more than 16 deep.
    TypeError
        Something that is not a layer; metadata that are no dict.

    Notes
    -----
    A first input of three dimensions, ``(H, W, C)``, is one image. For a batch of grey images
    ``(N, H, W)`` give `input_shape`, or use `predict`.

    Threads may share a network. It can be copied and pickled, built or not.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> net = pycnn.Sequential([
    ...     pycnn.Conv2D(8, 3, activation="relu", seed=0),
    ...     pycnn.MaxPool2D(),
    ...     pycnn.Flatten(),
    ...     pycnn.Dense(10, activation="softmax", seed=1),
    ... ])
    >>> net(np.ones((28, 28), np.float32)).shape
    (10,)
    >>> net.predict(np.ones((100, 28, 28), np.float32)).shape
    (100, 10)
    >>> net.names
    ('conv2d_1', 'max_pool2d_1', 'flatten_1', 'dense_1')
    """

    nested: ClassVar[str | None] = "layers"
    _last: tuple[LastCall | None, Activation] = None, None  # and what follows it

    def __init__(
        self,
        layers: Sequence[_layer.Layer] = (),
        *,
        input_shape: ArrayLike | None = None,
        name: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(name)
        who = type(self).__name__
        if not (metadata is None or isinstance(metadata, dict)):
            raise TypeError(f"{who}: metadata is a {type(metadata).__name__}; expected a dict")
        self.metadata = metadata
        if not isinstance(layers, (list, tuple)):
            raise TypeError(f"{who}: layers={layers!r}; expected a list of layers")
        for layer in layers:
            if not isinstance(layer, _layer.Layer):
                raise TypeError(f"{who}: {layer!r} is not a layer; expected one of pycnn.layers")
        self.layers: tuple[_layer.Layer, ...] = tuple(layers)
        self.names = _layer.unique_names(self.layers, who)
        self.depth = _layer.check_depth(self.layers, who)
        self._input_shape: Shape | None = None
        self._plans: dict[Shape, Plan] = {}
        if input_shape is not None:
            self.build(input_shape)

    def __call__(self, x: ArrayLike) -> Array:
        """Compute one sample or a batch of them.

        Parameters
        ----------
        x : array_like
            One sample, or a batch with one dimension more.

        Returns
        -------
        ndarray
            The result of the last layer; for a batch, one for each sample.

        Raises
        ------
        ValueError
            A shape that the network cannot take.
        TypeError
            Complex, object, string or longdouble arrays; masked arrays.
        """
        last, activation = self._last
        try:
            again = repeat(last, (_layer.Changes.latest,), x, None, None)
            if again is not None and activation is not None:
                apply(activation, again)
        except MemoryError as error:
            raise _checks.out_of_memory("Sequential", error) from None
        if again is not None:
            return again
        x = _checks.as_array(x, self._who, "x")
        one = self._is_sample(x)
        batch = x[None] if one else x[:]  # nobody else's, so its shape stays
        result = self._run(batch)
        plan = self._plan_for(batch.shape[1:])
        self._last = plan.last_call(len(batch), batch.dtype, one)
        return result[0, ...] if one else result

    def predict(
        self, X: Iterable[ArrayLike], batch_size: SupportsIndex = 32, progress: bool = False
    ) -> Array:
        """Compute many samples, a batch at a time: of what lies between, only a batch is in memory.

        Results of an array are put into place at once; those of an iterable are kept and copied
        in the end, which takes the memory of the result twice.

        Parameters
        ----------
        X : array_like, shape (N, ...), or iterable of samples
            An array, memory-mapped or not, a list or a generator, of samples of one shape. Their
            dtypes may differ if the network computes them in one.
        batch_size : int, default 32
            Samples that go through the network together.
        progress : bool, default False
            Show a progress bar; needs tqdm.

        Returns
        -------
        ndarray, shape (N, ...)
            The results in the order of the samples; the same bits for every `batch_size`.

        Raises
        ------
        ValueError
            No samples, or samples that differ in shape or that the network cannot take.
        TypeError
            Complex, object, string or longdouble arrays; masked arrays; samples that would be
            computed partly in float32, partly in float64.
        ImportError
            A progress bar where tqdm is not installed.
        """
        who = f"{self._who}.predict"
        batches = batches_of(X, _checks.integer(batch_size, who, "batch_size", 1), who)
        if _checks.flag(progress, who, "progress"):
            batches = with_bar(batches, len(X) if isinstance(X, Sized) else None, who)
        results = (self._run(self._batch(batch, who)) for batch in batches)
        if isinstance(X, np.ndarray) and X.ndim:
            return gathered(results, len(X), who)
        return np.concatenate(list(results))

    def feature_maps(self, x: ArrayLike) -> dict[str, Array]:
        """Compute one sample or a batch and keep the result of every layer.

        Parameters
        ----------
        x : array_like
            One sample, or a batch with one dimension more.

        Returns
        -------
        dict of str to ndarray
            By the names of the layers, with those of the containers around them as in
            ``sequential_1/conv2d_1``, in the order in which they run. Layers that change nothing
            share the memory of their input.

        Raises
        ------
        ValueError, TypeError
            As calling the network.

        Notes
        -----
        Layers run one by one; where a call multiplies a batch normalisation into filters, results
        differ by rounding.

        Examples
        --------
        >>> import numpy as np
        >>> import pycnn
        >>> net = pycnn.Sequential([pycnn.Conv2D(2, 3, seed=0), pycnn.ReLU()])
        >>> [(name, maps.shape) for name, maps in net.feature_maps(np.eye(9)).items()]
        [('conv2d_1', (7, 7, 2)), ('relu_1', (7, 7, 2))]
        """
        x = _checks.as_array(x, self._who, "x")
        one = self._is_sample(x)
        self._plan_for(x.shape if one else x.shape[1:])
        maps: dict[str, Array] = {}
        self._trace(x[None] if one else x, "", maps)
        return {name: array[0, ...] for name, array in maps.items()} if one else maps

    def summary(self, input_shape: ArrayLike | None = None) -> Summary:
        """The layers with their output shapes, parameters and multiply-adds.

        Parameters
        ----------
        input_shape : tuple of int, optional
            The shape of one sample: that the network was built for when not given.

        Returns
        -------
        Summary
            Prints as a table; has `rows`, `n_parameters` and `multiply_adds`.

        Raises
        ------
        ValueError
            A network that is not built, without a shape; a shape that it cannot take.

        Examples
        --------
        >>> import pycnn
        >>> net = pycnn.Sequential([pycnn.Conv2D(6, 5), pycnn.ReLU(), pycnn.MaxPool2D()])
        >>> net.summary((28, 28))
        name          layer      output shape  parameters  multiply-adds
        ----------------------------------------------------------------
                      input      (28, 28)
        conv2d_1      Conv2D     (24, 24, 6)          156         86,400
        relu_1        ReLU       (24, 24, 6)            0              0
        max_pool2d_1  MaxPool2D  (12, 12, 6)            0              0
        ----------------------------------------------------------------
        total                                         156         86,400
        """
        if input_shape is not None:
            self.build(input_shape)
            shape = _layer.check_shape(input_shape, self._who)
        elif self.input_shape is not None:
            shape = self.input_shape
        else:
            raise ValueError(f"{self._who}.summary: the network is not built; give input_shape")
        return Summary(shape, list(self._rows(shape, "")))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file, whole or not at all.

        Parameters
        ----------
        path : path-like
            Ends with ``.npz`` or ``.safetensors``, which says the format.

        Raises
        ------
        ValueError
            A network that is not built; another ending; a layer that is not of `pycnn.layers`.
        OSError
            A file that cannot be written; what was there before remains.
        ImportError
            The second format, where safetensors is not installed.

        Examples
        --------
        >>> import tempfile
        >>> import pycnn
        >>> net = pycnn.Sequential([pycnn.Conv2D(8, 3), pycnn.ReLU()], input_shape=(28, 28))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(folder + "/net.npz")
        ...     pycnn.Sequential.load(folder + "/net.npz")
        Sequential([
            Conv2D(8, 3),
            ReLU(),
        ])
        """
        from pycnn._model_files import write_model

        write_model(path, *_model.describe(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sequential:
        """Read a network from a file. Nothing in the file is executed.

        Parameters
        ----------
        path : path-like
            A file that `save` made.

        Returns
        -------
        Sequential

        Raises
        ------
        ValueError
            A file that is damaged, that is no model, or that a newer version made.
        OSError
            A file that cannot be read.
        ImportError
            A ``.safetensors`` file, where safetensors is not installed.
        """
        from pycnn._model_files import read_model

        model = _model.restore(path, *read_model(path))
        if not isinstance(model, cls):
            raise ValueError(f"{path}: the model is a {type(model).__name__}, no {cls.__name__}")
        return model

    @property
    def input_shape(self) -> Shape | None:
        return self._input_shape

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[_layer.Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> _layer.Layer: ...
    @overload
    def __getitem__(self, key: slice) -> Sequential: ...

    def __getitem__(self, key: str | SupportsIndex | slice) -> _layer.Layer:
        if isinstance(key, slice):
            return self._part(key)
        if not isinstance(key, str):
            index = _checks.index(key, self._who, "index")
            if not -len(self) <= index < len(self):
                raise IndexError(
                    f"{self._who}: no layer {_checks.in_words(index)}; there are {len(self)}"
                )
            return self.layers[index]
        try:
            return self.layers[self.names.index(key)]
        except ValueError:
            raise KeyError(f"{self._who}: no layer {key!r}; there are {self.names}") from None

    def _part(self, key: slice) -> Sequential:
        part = Sequential(self.layers[key])
        start, _, step = key.indices(len(self))
        if step == 1 and self._input_shape is not None:
            # What tells a sample from a batch here tells it there.
            part._input_shape = Sequential(self.layers[:start])._output_shape(self._input_shape, "")
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_plans": {}}

    @property
    def _path(self) -> str:
        return ""  # errors name its layers, not the network

    def _is_sample(self, x: Array) -> bool:
        """Whether `x` is one sample, not a batch."""
        if x.ndim == 0:
            raise ValueError(
                f"{self._who}: x is a single number; expected (H, W), (H, W, C) or (n,), or a batch"
            )
        ndim = self._known_ndim(x.ndim) or self._usual_ndim(x.ndim)
        if x.ndim not in (ndim, ndim + 1):
            raise ValueError(
                f"{self._who}: x has {x.ndim} dimensions; expected {ndim}, or {ndim + 1} for a "
                f"batch (x.shape={x.shape})"
            )
        return x.ndim == ndim

    def _known_ndim(self, ndim: int) -> int | None:
        """Dimensions of a sample, by the shape built for or the layers; None where neither says."""
        return len(self.input_shape or ()) or self._sample_ndim(ndim)

    def _batch(self, batch: Array, who: str) -> Array:
        """A batch for `predict`; the usual mistake is a single sample."""
        shape = batch.shape[1:]
        ndim = self._known_ndim(len(shape))
        if ndim is not None and len(shape) != ndim:
            hint = "; give a single one as X[None]" if len(shape) == ndim - 1 else ""
            raise ValueError(
                f"{who}: X has samples of shape {shape}; expected {ndim} dimensions each{hint}"
            )
        return batch

    def _run(self, batch: Array) -> Array:
        self._last = None, None  # weights that were replaced are not to be kept
        plan = self._plan_for(batch.shape[1:])
        if len(batch) <= plan.samples:
            return plan(batch)
        starts = range(0, len(batch), plan.samples)
        parts = (plan(batch[start : start + plan.samples]) for start in starts)
        return gathered(parts, len(batch), self._who)

    def _plan_for(self, shape: Shape) -> Plan:
        plan = self._plans.get(shape)
        if plan is None:
            plan = self.plan(shape, "")
            if not plan.fresh:
                plan.steps.append(_copy)
            if self._input_shape is None:
                self._input_shape = shape
            if len(self._plans) >= _MAX_PLANS:
                self._plans = {}  # a new one: other threads may be looking
            self._plans[shape] = plan
        return plan

    def plan(self, shape: Shape, who: str) -> Plan:
        """The steps for samples of a shape, which must not be overwritten."""
        return Plan(self._placed(who), shape, fresh=False)

    def _children(self) -> Iterator[tuple[str, _layer.Layer]]:
        return zip(self.names, self.layers, strict=True)

    def _placed(self, who: str) -> Iterator[tuple[str, _layer.Layer]]:
        for name, layer in self._children():
            yield from layer._placed(_layer.join(who, name))

    def _sample_ndim(self, ndim: int) -> int | None:
        found = (layer._sample_ndim(ndim) for layer in self.layers)
        return next((n for n in found if n is not None), None)

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        for name, layer in self._children():
            shape = layer._output_shape(shape, _layer.join(who, name))
        return shape

    def _build(self, shape: Shape, who: str) -> None:
        if self._input_shape is None and not who:
            self._input_shape = shape
        if self.built:
            return
        for name, layer in self._children():
            inner = _layer.join(who, name)
            layer._build(shape, inner)
            shape = layer._output_shape(shape, inner)

    def _forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer._forward(x)
        return x

    def _trace(self, x: Array, path: str, maps: dict[str, Array]) -> Array:
        for name, layer in self._children():
            x = layer._trace(x, _layer.join(path, name), maps)
        return x

    def _rows(self, shape: Shape, path: str) -> Iterator[Row]:
        for name, layer in self._children():
            inner = _layer.join(path, name)
            yield from layer._rows(shape, inner)
            shape = layer._output_shape(shape, inner)
