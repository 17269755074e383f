"""What all layers have in common: a name, parameters made on first input, options that describe it.

A layer computes on batches, ``(N, *shape)``; `shape` is that of one sample: ``(H, W)`` for grey
images, ``(H, W, C)`` for images with channels, ``(n,)`` for vectors. Calls add the first axis where
it is missing.

Layers take no lock. Whatever is made on first use is a pure function of what was given before, and
is published whole by one assignment: threads that race make it twice, and cannot tell which of the
two they use.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING

from pycnn import _checks
from pycnn.layers._summary import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, ClassVar, Self

    from pycnn._typing import Array, ArrayLike, Shape, Step


# Containers nest at most so deep, so that no walk over them, and no model file, ends the stack.
MAX_DEPTH = 16
# The layers that a model file may name: the classes marked loadable.
LOADABLE: dict[str, type[Layer]] = {}


# Attributes that only save work: they change nothing, and copies and pickles go without.
_MEMOS = ("_checked_for", "_last")


class Changes:
    """When any layer was last changed: `latest` is another object after each time.

    What was made from parameters is still good if it is the object of that time.
    """

    latest = object()


class Layer:
    """The base of all layers: what they can all do.

    The arguments of a layer are its attributes and stay as they are; only parameters may be
    replaced.

    Attributes
    ----------
    name : str or None
        The name it was given. Networks find one for layers without: ``conv2d_1``, ``conv2d_2``.
    built : bool
        Whether the layer has all its parameters.
    """

    kind: ClassVar[str] = "layer"
    depth: int = 0  # of containers in each other
    nested: ClassVar[str | None] = None  # the option that holds layers
    makes_new: ClassVar[bool] = True  # results share no memory with the input
    _checked_for: tuple[object, Shape] = None, ()  # samples of this shape, as of this change

    def __init__(self, name: str | None) -> None:
        self._name = None if name is None else check_name(name, type(self).__name__)

    def __init_subclass__(cls, *, loadable: bool = False) -> None:
        if loadable:
            LOADABLE[cls.__name__] = cls
        # MaxPool2D is max_pool2d, ReLU is relu: the names of the functions.
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.replace("ReLU", "Relu"))
        cls.kind = words.lower().removeprefix("_")

    def __setattr__(self, name: str, value: object) -> None:
        if name in _MEMOS:
            super().__setattr__(name, value)
            return
        # Networks plan their calls once, by the options of their layers.
        if name in vars(self) and name in options(type(self)):
            raise AttributeError(
                f"{self._who}: {name} stays what the layer was made with; make another layer"
            )
        super().__setattr__(name, value)
        Changes.latest = object()

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def _who(self) -> str:
        """What errors call the layer outside a network, which knows it by its place."""
        return self._name or self.kind

    @property
    def _path(self) -> str:
        """What errors about shapes call it."""
        return self._who

    @property
    def built(self) -> bool:
        return all(child.built for _, child in self._children())

    @property
    def arrays(self) -> dict[str, Array]:
        """The parameters by name, read-only; none before the layer is built."""
        return {}

    @property
    def n_parameters(self) -> int:
        """How many numbers training would change."""
        own = sum(array.size for array in self.arrays.values())
        return own + sum(child.n_parameters for _, child in self._children())

    def build(self, input_shape: ArrayLike) -> Self:
        """Make the parameters that the layer does not have yet.

        Parameters
        ----------
        input_shape : sequence of int
            The shape of one sample, without the axis of the batch.

        Returns
        -------
        Layer
            The layer itself.

        Raises
        ------
        ValueError
            A shape that the layer cannot take.
        """
        shape = check_shape(input_shape, self._who)
        self._output_shape(shape, self._path)
        self._build(shape, self._path)
        return self

    def output_shape(self, input_shape: ArrayLike) -> Shape:
        """The shape of the result for one sample of a shape; ValueError if the layer takes none.

        Parameters
        ----------
        input_shape : sequence of int
            The shape of one sample, without the axis of the batch.

        Returns
        -------
        tuple of int
        """
        return self._output_shape(check_shape(input_shape, self._who), self._path)

    def multiply_adds(self, input_shape: ArrayLike) -> int:
        """Products that are added up to compute one sample of a shape.

        Parameters
        ----------
        input_shape : sequence of int
            The shape of one sample, without the axis of the batch.

        Returns
        -------
        int
        """
        return self._multiply_adds(check_shape(input_shape, self._who), self._path)

    def get_config(self) -> dict[str, Any]:
        """The layer without its parameters, as plain values that JSON can hold."""
        config: dict[str, Any] = {"class": type(self).__name__}
        for option in config_options(type(self)):
            config[option] = getattr(self, option)
        if self.nested is not None:
            config[self.nested] = [layer.get_config() for _, layer in self._children()]
        return config

    def __call__(self, x: ArrayLike) -> Array:
        who = self._who
        x = _checks.as_array(x, who, "x")
        n = self._sample_ndim(x.ndim) or self._usual_ndim(x.ndim)
        if x.ndim not in (n, n + 1):
            raise ValueError(
                f"{who}: x has {x.ndim} dimensions; expected {n}, or {n + 1} for a batch "
                f"(x.shape={x.shape})"
            )
        batch = x if x.ndim > n else x[None]
        shape = batch.shape[1:]
        latest = Changes.latest  # one that comes while looking counts as not yet seen
        if self._checked_for != (latest, shape):
            self._output_shape(shape, who)
            self._build(shape, who)
            self._checked_for = latest, shape
        result = self._forward(batch)
        return result if x.ndim > n else result[0, ...]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MEMOS}

    def __repr__(self) -> str:
        shown = []
        for option, default in options(type(self)).items():
            value = getattr(self, option, default)
            if option == self.nested:
                shown.append(_listed(value))
            elif default is _REQUIRED:
                shown.append(repr(value))
            elif value != default and option != "input_shape":
                shown.append(f"{option}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    # What a family of layers says about itself. `who` begins the sentence of an error.

    def _sample_ndim(self, ndim: int) -> int | None:
        """Dimensions of one sample, given those of an input; None if the layer takes any."""
        return None

    def _usual_ndim(self, ndim: int) -> int:
        """Dimensions of one sample where all layers take any."""
        inner = (child._usual_ndim(ndim) for _, child in self._children())
        return min(inner, default=min(ndim, 3))

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        return shape

    def _build(self, shape: Shape, who: str) -> None:
        pass

    def _forward(self, x: Array) -> Array:
        """The result for a batch that has the shape the layer was built for."""
        raise NotImplementedError

    def _step(self, shape: Shape, who: str, fresh: bool) -> Step:
        """What a network calls instead of `_forward`, for samples of a shape.

        `fresh` inputs may be overwritten: they were made on the way, for this layer alone.
        """
        return self._forward

    def _placed(self, who: str) -> Iterator[tuple[str, Layer]]:
        """The layer under its name; a sequence, the layers in it."""
        yield who, self

    def _trace(self, x: Array, path: str, maps: dict[str, Array]) -> Array:
        """The result, which is also put into `maps`."""
        maps[path] = x = self._forward(x)
        return x

    def _rows(self, shape: Shape, path: str) -> Iterator[Row]:
        """What a summary says about the layer and those in it."""
        yield Row(
            path,
            type(self).__name__,
            self._output_shape(shape, path),
            self.n_parameters,
            self._multiply_adds(shape, path),
        )

    def _multiply_adds(self, shape: Shape, who: str) -> int:
        return 0

    def _set_arrays(self, arrays: Mapping[str, Array], who: str) -> None:
        """Take parameters from a file; the caller sees to it that all names are there."""

    def _array_names(self) -> tuple[str, ...]:
        return ()

    def _children(self) -> Iterator[tuple[str, Layer]]:
        return iter(())


_REQUIRED = object()


def config_options(cls: type[Layer]) -> list[str]:
    """The options of a layer that has its parameters, and of a network."""
    past = {"initializer", "seed"} if cls.nested else {"initializer", "seed", "input_shape"}
    return [option for option in options(cls) if option not in past]


def _listed(layers: Sequence[Layer]) -> str:
    """A list of layers for a repr, one a line."""
    lines = [f"    {line}\n" for layer in layers for line in f"{layer!r},".split("\n")]
    return f"[\n{''.join(lines)}]" if lines else "[]"


def options(cls: type[Layer]) -> dict[str, Any]:
    """The arguments of a layer with their defaults."""
    import inspect  # slow to import

    parameters = inspect.signature(cls).parameters.values()
    return {p.name: _REQUIRED if p.default is p.empty else p.default for p in parameters}


def join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def walk(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """All layers in a layer, at any depth, with the paths of their names."""
    for name, child in layer._children():
        yield join(path, name), child
        yield from walk(child, join(path, name))


def unique_names(layers: Sequence[Layer], who: str, kind: str | None = None) -> tuple[str, ...]:
    """A name for each layer: its own, else its kind and a number."""
    taken: set[str] = set()
    for layer in layers:
        if layer.name is not None:
            if layer.name in taken:
                raise ValueError(f"{who}: the name {layer.name!r} is given to two layers")
            taken.add(layer.name)
    numbers = {kind or layer.kind: itertools.count(1) for layer in layers}
    names = []
    for layer in layers:
        name, word = layer.name, kind or layer.kind
        if name is None:
            numbered = (f"{word}_{number}" for number in numbers[word])
            name = next(free for free in numbered if free not in taken)
        names.append(name)
    return tuple(names)


def check_depth(layers: Sequence[Layer], who: str) -> int:
    depth = 1 + max((layer.depth for layer in layers), default=0)
    if depth > MAX_DEPTH:
        raise ValueError(f"{who}: containers nest more than {MAX_DEPTH} deep")
    return depth


def check_name(name: object, who: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{who}: name={name!r} is a {type(name).__name__}; expected a string")
    if (
        not (0 < len(name) <= 100 and name.isprintable())
        or set(name) & set("/\\:")
        or name[0] == "."
    ):
        raise ValueError(
            f"{who}: name={name[:100]!r} must have 1 to 100 printable characters, none of / \\ :, "
            "and not begin with a dot"
        )
    return name


def check_shape(shape: Any, who: str, name: str = "input_shape") -> Shape:
    """The shape of one sample: image, or vector."""
    if not isinstance(shape, (tuple, list)) or not 1 <= len(shape) <= 3:
        raise ValueError(
            f"{who}: {name}={shape!r} must be the (H, W), (H, W, C) or (n,) of one sample"
        )
    sizes = tuple(_checks.integer(size, who, name, 1) for size in shape)
    if math.prod(sizes) > _checks.LARGEST // 8:
        raise ValueError(f"{who}: {name}={sizes} is too large to be addressed")
    return sizes


def pair(value: object, who: str, name: str) -> int | tuple[int, int]:
    """One integer for both axes, or (vertical, horizontal) where they differ."""
    vertical, horizontal = _checks.pair(value, who, name)
    return vertical if vertical == horizontal else (vertical, horizontal)


def padding(value: object, who: str) -> Any:
    """A padding in the shortest of its forms."""
    canonical = _checks.canonical_padding(value, who)
    if isinstance(canonical, str):
        return canonical
    (top, bottom), (left, right) = canonical
    if (top, left) != (bottom, right):
        return canonical
    return top if top == left else (top, left)
