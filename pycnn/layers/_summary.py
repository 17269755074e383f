"""The table of a network's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycnn._typing import Shape


class Row(NamedTuple):
    """One layer of a `Summary`.

    Attributes
    ----------
    name : str
        With the names of the containers around it, as in ``fire2/concatenate_1/branch_1/conv2d_1``.
    layer : str
        The class.
    output_shape : tuple of int
        Of one sample.
    n_parameters, multiply_adds : int
        Zero for containers, whose layers have rows of their own.
    """

    name: str
    layer: str
    output_shape: Shape
    n_parameters: int
    multiply_adds: int


class Summary:
    """What each layer of a network makes and costs; prints as a table.

    Attributes
    ----------
    input_shape : tuple of int
        Of one sample.
    rows : tuple of Row
        In the order of the data, those inside a container before its own.
    n_parameters, multiply_adds : int
        Of the whole network, the latter for one sample.
    """

    def __init__(self, input_shape: Shape, rows: Sequence[Row]) -> None:
        self.input_shape = input_shape
        self.rows = tuple(rows)
        self.n_parameters = sum(row.n_parameters for row in self.rows)
        self.multiply_adds = sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        table = [("name", "layer", "output shape", "parameters", "multiply-adds")]
        table.append(("", "input", str(self.input_shape), "", ""))
        table += [
            (name, layer, str(shape), f"{n_parameters:,}", f"{multiply_adds:,}")
            for name, layer, shape, n_parameters, multiply_adds in self.rows
        ]
        table.append(("total", "", "", f"{self.n_parameters:,}", f"{self.multiply_adds:,}"))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__
