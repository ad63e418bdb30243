"""A network as a plain list of operations, independent of the runtime that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of a network, with the type names and attributes of OpenVINO's operation sets.

    `inputs` are positions in the list of operations, all of them earlier. `value` is the data of a `Constant`.
    `element_type` is the NumPy name of the type of the result, `shape` its sizes, -1 where a size varies.
    """

    type: str
    inputs: tuple[int, ...]
    element_type: str
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    value: NDArray[Any] | None = None

    @property
    def rank(self) -> int:
        """The number of dimensions of the result."""
        return len(self.shape)


def read_constant(operations: list[Operation], position: int) -> NDArray[Any]:
    """The value of a constant operation. Raises `ValueError` where it is computed."""
    value = operations[position].value
    if value is None:
        raise ValueError(f"an operand of type {operations[position].type} is not constant")
    return np.asarray(value)
