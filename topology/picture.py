"""Where pictures go: which kinds there are, and that the same picture is the same file. Needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib import rc_context
from matplotlib.backend_bases import FigureCanvasBase

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

SUFFIXES: Final = tuple(sorted(f".{kind}" for kind in FigureCanvasBase.filetypes))
"""Of files that can be drawn into."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure into a file whose suffix names the kind. Raises `OSError`.

    An SVG has neither a date nor names drawn by chance, so the same figure gives the same bytes.
    """
    with rc_context({"svg.hashsalt": "popctl"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
