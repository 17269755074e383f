"""Networks as plain values and arrays, for model files, and back.

A file that is read may come from anyone. Nothing is made from it but layers of a fixed list, out of
options their own constructors check, and no array but those in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pycnn.layers import _layer

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any

    from pycnn._typing import Array

# A container is an object with a list of layers; a padding is a list of lists.
_MAX_NESTING = 2 * _layer.MAX_DEPTH + 4


def describe(network: _layer.Layer) -> tuple[dict[str, Any], dict[str, Array]]:
    """The options of a network and of all its layers, and their arrays by path."""
    if not network.built:
        raise ValueError(f"{network._who}: a network is saved with its parameters; build it first")
    arrays = {}
    for path, layer in [(network._who, network), *_layer.walk(network)]:
        if _layer.LOADABLE.get(type(layer).__name__) is not type(layer):
            raise ValueError(
                f"{path} is a {type(layer).__name__}; only layers of pycnn.layers can be saved"
            )
        for name, array in layer.arrays.items():  # in the dtype they are computed in
            dtype = np.result_type(array.dtype, np.float32)
            arrays[f"{path}/{name}"] = array.astype(dtype, copy=False)
    return network.get_config(), arrays


def restore(
    path: str | os.PathLike[str], config: Mapping[str, Any], arrays: Mapping[str, Array]
) -> _layer.Layer:
    """The network of a file's options and arrays; ValueError for whatever else they may be."""
    try:
        _check_nesting(config)
        shapes: list[tuple[_layer.Layer, Any]] = []
        network = _layer_from(config, "model", shapes)
        _fill(network, arrays)
        for layer, shape in shapes:
            layer.build(shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a valid model: {str(error)[:500]}") from error
    return network


def _check_nesting(config: object) -> None:
    """Without recursion, so that what follows may use it."""
    level = [config]
    for _ in range(_MAX_NESTING):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level = inner
        if not level:
            return
    raise ValueError(f"its description nests more than {_MAX_NESTING} deep")


def _layer_from(config: Any, where: str, shapes: list[tuple[_layer.Layer, Any]]) -> _layer.Layer:
    """One layer and those in it, without arrays; `shapes` gets what they are to be built for."""
    if not isinstance(config, dict):
        raise ValueError(f"{where} is a {type(config).__name__}; expected an object with a class")
    options = dict(config)
    word = options.pop("class", None)
    cls = _layer.LOADABLE.get(word) if isinstance(word, str) else None
    if cls is None:
        raise ValueError(f"{where} has the unknown class {word!r}")
    known = set(_layer.config_options(cls))
    if options.keys() != known:
        wrong = sorted(options.keys() ^ known)
        raise ValueError(f"{where}, a {word}, lacks or does not know the options {wrong[:5]}")
    if cls.nested is not None:
        inner = options[cls.nested]
        if not isinstance(inner, list):
            raise ValueError(f"{where}: {cls.nested} is a {type(inner).__name__}; expected a list")
        options[cls.nested] = [
            _layer_from(value, f"{where}.{cls.nested}[{index}]", shapes)
            for index, value in enumerate(inner)
        ]
    shape = options.pop("input_shape", None)
    try:
        layer = cls(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    if shape is not None:
        shapes.append((layer, shape))
    return layer


def _fill(network: _layer.Layer, arrays: Mapping[str, Array]) -> None:
    rest = dict(arrays)
    for path, layer in _layer.walk(network):
        names = layer._array_names()
        missing = [f"{path}/{name}" for name in names if f"{path}/{name}" not in rest]
        if missing:
            raise ValueError(f"it has no array {missing[0]!r}")
        given = {name: rest.pop(f"{path}/{name}") for name in names}
        for name, array in given.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                raise ValueError(f"the array '{path}/{name}' is not of floating-point numbers")
        if given:
            layer._set_arrays(given, path)
    if rest:
        raise ValueError(f"no layer has the array {min(rest)!r}")
