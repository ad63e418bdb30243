"""`--ray`, which may be followed by an address, and may also stand before a SOURCE that is none."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

_OPTION = "--ray"
_ADDRESS = re.compile(r"auto|local|(ray://)?([\w.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")


class RayCommand(TyperCommand):
    """A command whose option `--ray` has a value, `--ray=ADDRESS`, or none; without one it is the empty text.

    A word behind it is its address if it looks like one (auto, local, host:port), else the next argument. A folder that
    is called so is written ./auto.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write every `--ray` with its value in one word, as click wants it."""
        return super().parse_args(ctx, _join_ray_values(args))


def _join_ray_values(args: list[str]) -> list[str]:
    joined: list[str] = []
    left = args[::-1]
    while left:
        word = left.pop()
        if word == "--":
            return [*joined, word, *left[::-1]]
        if word == _OPTION:
            word = f"{_OPTION}={left.pop() if left and _ADDRESS.fullmatch(left[-1]) else ''}"
        joined.append(word)
    return joined
