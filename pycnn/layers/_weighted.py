"""Layers with weights and a bias: what Conv2D and Dense share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pycnn import _checks
from pycnn.layers import _layer
from pycnn.layers._initializers import INITIALIZERS, draw_seed, initialize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar

    from pycnn._typing import Activation, Array, ArrayLike, DType, Shape


class Parameters(NamedTuple):
    """Weights and bias as users see them, read-only, and the weights as the kernels take them."""

    weights: Array
    bias: Array | None
    packed: Any  # PackedFilters, or by dtype the matrices that chains have made of `weights`


class Weighted(_layer.Layer):
    """A layer of sums of products, with a bias and an activation.

    `parameters` is replaced whole and never changed, so whatever is derived from one is good as
    long as it is still there. Drawn parameters have a place of their own: a thread that draws some
    while another assigns others cannot replace those.
    """

    weights_name: ClassVar[str]
    output_axis: ClassVar[int]  # of the weights

    def __init__(
        self,
        n_outputs: int,
        use_bias: bool,
        activation: Activation,
        initializer: str,
        seed: Any,
        name: str | None,
    ) -> None:
        super().__init__(name)
        who = type(self).__name__
        _checks.choice(activation, _checks.ACTIVATIONS, who, "activation")
        _checks.choice(initializer, INITIALIZERS, who, "initializer")
        self.use_bias = _checks.flag(use_bias, who, "use_bias")
        self.activation: Activation = activation
        self.initializer = initializer
        self._given: Parameters | None = None
        self._drawn: Parameters | None = None
        self._n_outputs = n_outputs
        self._seed = draw_seed(seed, who)

    # What Conv2D and Dense say about their weights.

    def _weights_shape(self, shape: Shape) -> Shape:
        """Of the weights there are, else of those for samples of a shape."""
        raise NotImplementedError

    def _fans(self, weights: Shape) -> tuple[int, int]:
        """Inputs of an output, and outputs of an input."""
        raise NotImplementedError

    def _check_weights(self, weights: Shape, who: str) -> None:
        """ValueError for weights that do not belong to the options of the layer."""
        raise NotImplementedError

    @staticmethod
    def _pack(weights: Array, bias: Array | None) -> Parameters:
        """Copies."""
        raise NotImplementedError

    # Parameters

    @property
    def parameters(self) -> Parameters | None:
        # Another thread may give some, and drop those drawn, between the first and the second look.
        return self._given or self._drawn or self._given

    @property
    def built(self) -> bool:
        return self.parameters is not None

    def parameters_for(self, x_dtype: DType) -> Parameters:
        """What the kernels take; a BatchNorm that is folded in has others for each dtype."""
        assert self.parameters is not None
        return self.parameters

    @property
    def bias(self) -> Array | None:
        return None if (parameters := self.parameters) is None else parameters.bias

    @bias.setter
    def bias(self, bias: ArrayLike) -> None:
        parameters = self.parameters
        if parameters is None:
            raise ValueError(f"{self._who}: assign {self.weights_name} first, then bias")
        self._give(parameters.weights, bias, self._who)

    def _get_weights(self) -> Array | None:
        return None if (parameters := self.parameters) is None else parameters.weights

    def _replace_weights(self, weights: ArrayLike) -> None:
        array = _checks.as_array(weights, self._who, self.weights_name)
        parameters = self.parameters
        if parameters is not None and array.shape != parameters.weights.shape:
            raise ValueError(
                f"{self._who}: {self.weights_name} have shape {array.shape}; "
                f"expected {parameters.weights.shape}"
            )
        bias = None if parameters is None else parameters.bias
        if bias is None and self.use_bias:
            self._check_weights(array.shape, self._who)
            bias = np.zeros(self._n_outputs, np.float32)
        self._give(array, bias, self._who)

    def _give(self, weights: ArrayLike, bias: ArrayLike | None, who: str) -> None:
        self._given = self._checked(weights, bias, who)
        self._drawn = None

    def _checked(self, weights: ArrayLike, bias: ArrayLike | None, who: str) -> Parameters:
        array = _checks.as_array(weights, who, self.weights_name)
        self._check_weights(array.shape, who)
        if bias is not None:
            bias = _checks.as_array(bias, who, "bias")
            if bias.shape != (self._n_outputs,):
                raise ValueError(
                    f"{who}: bias has shape {bias.shape}; expected one number per output, "
                    f"({self._n_outputs},)"
                )
        if (bias is not None) != self.use_bias:
            raise ValueError(
                f"{who}: {'no' if bias is None else 'a'} bias is given to a layer with "
                f"use_bias={self.use_bias}"
            )
        try:
            return self._pack(array, None if bias is None else _checks.frozen(bias))
        except MemoryError as error:
            raise _checks.out_of_memory(who, error) from None

    @property
    def arrays(self) -> dict[str, Array]:
        parameters = self.parameters
        if parameters is None:
            return {}
        arrays = {self.weights_name: parameters.weights}
        if parameters.bias is not None:
            arrays["bias"] = parameters.bias
        return arrays

    def _array_names(self) -> tuple[str, ...]:
        return (self.weights_name, "bias") if self.use_bias else (self.weights_name,)

    def _set_arrays(self, arrays: Mapping[str, Array], who: str) -> None:
        self._give(arrays[self.weights_name], arrays.get("bias"), who)

    def __getstate__(self) -> dict[str, Any]:
        parameters = self.parameters
        return {**super().__getstate__(), "_given": parameters and parameters[:2], "_drawn": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pack again: arrays that are copied lose their packing, and may be written to."""
        vars(self).update(state, _given=None)
        if state["_given"] is not None:
            weights, bias = state["_given"]
            self._give(weights, bias, self._who)

    def _build(self, shape: Shape, who: str) -> None:
        if self.parameters is None:
            weights = self._weights_shape(shape)
            rng = np.random.default_rng(self._seed)
            drawn = initialize(self.initializer, weights, self._fans(weights), rng, who)
            bias = np.zeros(self._n_outputs, np.float32) if self.use_bias else None
            self._drawn = self._checked(drawn, bias, who)

    def scaled(
        self, parameters: Parameters, scale: Array, shift: Array, dtype: DType
    ) -> Parameters | None:
        """Parameters of a dtype that give ``scale * y + shift`` where those given here give y.

        None where they are not finite in that dtype.
        """
        weights, bias, _ = parameters
        axes = [1] * weights.ndim
        axes[self.output_axis] = -1
        with np.errstate(all="ignore"):
            shift = (shift if bias is None else shift + bias * scale).astype(dtype)
            weights = (weights * scale.reshape(axes)).astype(dtype)
        if not (np.isfinite(weights).all() and np.isfinite(shift).all()):
            return None
        return self._pack(weights, shift)
