"""Embedding of a plot's SVG in a page: colors become the page's CSS variables, and ids get a prefix."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from simsearch.report.benchmark.plots import FAINT, INK, OTHER_COLOR, PALETTE, PAPER, RULE, Plot

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_CSS_VARIABLES = {
    PAPER: "var(--paper)",
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    RULE: "var(--rule)",
    OTHER_COLOR: "var(--rest)",
    **{color: f"var(--s{number})" for number, color in enumerate(PALETTE)},
}
_COLOR = re.compile("#[0-9a-f]{6}")
_REFERENCE = re.compile(r"url\(#")

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def inline_svg(plot: Plot) -> str:
    """Convert a plot to an `<svg>` element with the plot's width, and with its title for screen readers."""
    root = ElementTree.fromstring(plot.svg)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        _adapt_attributes(element.attrib, plot.name)
    width, _ = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.update({"role": "img", "aria-label": plot.title, "style": f"width: {width}"})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt_attributes(attributes: dict[str, str], prefix: str) -> None:
    for name, value in attributes.items():
        if name == "id":
            attributes[name] = f"{prefix}-{value}"
        elif name == f"{{{_XLINK}}}href" and value.startswith("#"):
            attributes[name] = f"#{prefix}-{value[1:]}"
        else:
            recolored = _COLOR.sub(lambda match: _CSS_VARIABLES.get(match[0], match[0]), value)
            attributes[name] = _REFERENCE.sub(f"url(#{prefix}-", recolored)
