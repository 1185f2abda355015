"""The colours of the report, once: for drawing, and as CSS variables that change with the browser's scheme.

The hues follow Okabe and Ito (2008), which stay apart for every kind of colour vision; the dark ones are the
same hues, lighter. No figure tells anything by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "page": "#f4f6f8",
    "surface": "#ffffff",
    "ink": "#1a2027",
    "muted": "#566270",
    "grid": "#dde3ea",
    "dense": "#c3ccd6",
    # Text on a strong and on a middling fill; the fills of the dark scheme are the lighter ones.
    "on": "#fefefe",
    "on-mid": "#1a2028",
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#00805f",
    "sky": "#56b4e9",
    "orange": "#e69f00",
    "purple": "#cc79a7",
    "sand": "#b5a642",
    "good": "#e2f3ec",
    "good-ink": "#05573f",
    "bad": "#fdeae0",
    "bad-ink": "#973b00",
}
DARK: Mapping[str, str] = {
    "page": "#0f1317",
    "surface": "#181e24",
    "ink": "#e7ecf1",
    "muted": "#9daab7",
    "grid": "#2c353f",
    "dense": "#46525f",
    "on": "#0b0f13",
    "on-mid": "#0b0f13",
    "blue": "#52b1ec",
    "vermilion": "#ff8b4d",
    "green": "#2fc79a",
    "sky": "#2f7fb5",
    "orange": "#f2b63c",
    "purple": "#dd92bb",
    "sand": "#cfc168",
    "good": "#123328",
    "good-ink": "#7be3bf",
    "bad": "#3f2113",
    "bad-ink": "#ffb68c",
}

# Several kinds side by side, in this order.
SERIES = ("blue", "sky", "orange", "green", "purple", "sand", "vermilion")


def variable(name: str) -> str:
    """A colour of the palette as CSS."""
    return f"var(--{name})"


def css(colours: Mapping[str, str]) -> str:
    """Declarations of the variables."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())
