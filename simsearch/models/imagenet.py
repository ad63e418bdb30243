"""The thousand classes of ImageNet (ILSVRC 2012), in the order of the networks' outputs.

Identifiers are those of WordNet 3.0 synsets: `n04522168` is a vase. Names are not unique: there are two cranes and two
maillots, so a class is known by its identifier.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_classes.txt")


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """One class. `label` is the name, with the identifier where another class has the same name."""

    id: str
    name: str
    label: str


@cache
def load_classes() -> tuple[ImageNetClass, ...]:
    """All of them; the position is the number of the network's output."""
    rows = [line.split(" ", 1) for line in _FILE.read_text(encoding="utf-8").splitlines()]
    n_so_named = Counter(name for _, name in rows)
    return tuple(ImageNetClass(id_, name, name if n_so_named[name] == 1 else f"{name} ({id_})") for id_, name in rows)
