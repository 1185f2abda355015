"""Matplotlib figures as SVG that is part of a page: its colours are CSS variables, its text the page's."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from deltatrain.report.palette import LIGHT, variable

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
POINTS_PER_INCH = 72

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deltatrain",
    # Names of classes and speakers are text, never formulas.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.handlelength": 1.4,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}

_VARIABLES = {value: variable(name) for name, value in LIGHT.items()}
_COLOUR = re.compile("|".join(map(re.escape, _VARIABLES)))
_FRACTION = re.compile(r"(\.\d\d)\d+")
_GEOMETRY = ("d", "x", "y", "width", "height", "transform", "points")
_REFERENCE = re.compile(r"url\(#")


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and `STYLE`, whatever the user's own settings are."""
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        # The browser has fonts for scripts that Matplotlib's own lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure whose SVG has `width` by `height` units, laid out so that nothing overlaps."""
    layout = ConstrainedLayoutEngine(h_pad=6 / POINTS_PER_INCH, w_pad=3 / POINTS_PER_INCH)
    return Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), layout=layout)


def to_svg(figure: Figure, name: str, alt: str) -> Markup:
    """An `<svg>` element for a page.

    Parameters
    ----------
    figure : Figure
        Made and still drawn within `style`.
    name : str
        Unique in the page: it begins every id of the element.
    alt : str
        What the figure shows, for who cannot see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # Matplotlib's style sheet would apply to the whole page.
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _adopt(element, name)
    for unit in ("width", "height", "version"):
        root.attrib.pop(unit, None)
    root.attrib |= {"role": "img", "aria-label": alt}
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))


def _adopt(element: ET.Element, name: str) -> None:
    """Make one element the page's: ids of its own, the page's colours and font, no needless digits."""
    attributes = element.attrib
    for key, value in list(attributes.items()):
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif key == f"{{{XLINK}}}href":
            attributes[key] = value.replace("#", f"#{name}-", 1)
        elif key == "clip-path":
            attributes[key] = _REFERENCE.sub(f"url(#{name}-", value)
        elif key == "style":
            attributes[key] = _COLOUR.sub(lambda match: _VARIABLES[match.group()], value)
        elif key in _GEOMETRY:
            attributes[key] = _FRACTION.sub(r"\1", value)
    if element.tag == f"{{{SVG}}}text":
        attributes["style"] = re.sub(r"'DejaVu Sans'(, [^;]*)?", "var(--font)", attributes.get("style", ""))
