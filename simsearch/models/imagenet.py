"""The 1,000 ImageNet classes (ILSVRC 2012), in the order of a network's outputs.

Identifiers are WordNet 3.0 synsets: `n04522168` is a vase. Names are not unique (two classes are called crane, two
maillot), so a class is identified by its identifier.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_classes.txt")


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """An ImageNet class. `label` is the name, followed by the identifier where two classes share the name."""

    id: str
    name: str
    label: str


@cache
def load_classes() -> tuple[ImageNetClass, ...]:
    """Load all classes; the position in the tuple is the index of the network's output."""
    rows = [line.split(" ", 1) for line in _FILE.read_text(encoding="utf-8").splitlines()]
    n_per_name = Counter(name for _, name in rows)
    return tuple(ImageNetClass(id_, name, name if n_per_name[name] == 1 else f"{name} ({id_})") for id_, name in rows)
