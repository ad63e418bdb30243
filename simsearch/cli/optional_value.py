"""The option `--ray` with an optional value, also in front of a SOURCE argument."""

from __future__ import annotations

import re
from typing import Any

from simsearch.cli.common_options import FlagCommand

_OPTION = "--ray"
_ADDRESS = re.compile(r"auto|local|(ray://)?([\w.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")


class RayCommand(FlagCommand):
    """A command with an option `--ray` that takes a value, `--ray=ADDRESS`, or none, which gives the empty string.

    The word after `--ray` is its value if it looks like an address (auto, local, host:port); otherwise it is the next
    argument. A folder with such a name is written as ./auto.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join every `--ray` with its value, as the parser requires."""
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
