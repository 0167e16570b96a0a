"""Short centred texts drawn from the outlines of their characters, several times faster than other texts.

matplotlib lays out and renders the glyphs of every text again; a heat map has a number in each of up to 500 cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath, text_to_path
from matplotlib.transforms import Affine2D

_HALF_HEIGHT = 0.365  # of a digit, as a share of the font size


class OutlinedText(Text):
    """A text without line breaks, with its centre at its position."""

    def draw(self, renderer: Any) -> None:
        """Fill the outlines."""
        if not self.get_visible():
            return
        x, y = self.get_transform().transform(self.get_unitless_position())
        scale = renderer.points_to_pixels(1.0)
        context = renderer.new_gc()
        context.set_linewidth(0)
        path = _outlined(self.get_text(), self.get_fontproperties())
        renderer.draw_path(context, path, Affine2D().scale(scale).translate(x, y), to_rgba(self.get_color()))
        context.restore()


def _outlined(text: str, font: FontProperties) -> Path:
    """Return the outline of a text in points, with its centre at the origin."""
    vertices, codes, advances = zip(*(_glyph(character, font) for character in text), strict=True)
    ends = np.cumsum(advances)
    starts = np.stack([ends - advances, np.zeros(len(ends))], axis=1)
    placed = [outline + start for outline, start in zip(vertices, starts, strict=True)]
    centre = (ends[-1] / 2, _HALF_HEIGHT * font.get_size_in_points())
    return Path(np.concatenate(placed) - centre, np.concatenate(codes))


@lru_cache(maxsize=256)
def _glyph(character: str, font: FontProperties) -> tuple[Any, Any, float]:
    """Return the vertices and codes of the outline of a character, and its width."""
    outline = TextPath((0.0, 0.0), character, prop=font)
    width, _, _ = text_to_path.get_text_width_height_descent(character, font, False)
    return outline.vertices, outline.codes, float(width)
