"""Short texts drawn as shapes: many of them in about the time that matplotlib takes for one text of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path
    from matplotlib.transforms import Transform


_CJK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
)


def word_families() -> list[str]:
    """Return the font families for words of any language: the user's, then one with CJK glyphs if it is installed."""
    from matplotlib import rcParams
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [*rcParams["font.family"], *[family for family in _CJK_FAMILIES if family in installed][:1]]


@cache
def _glyph(character: str) -> tuple[NDArray[np.float64], NDArray[np.uint8], float]:
    """Return vertices (m, 2) and codes (m,) of a character at size 1, and its width."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(character, FontProperties(size=1), ismath=False)
    vertices, codes = text_to_path.get_text_path(FontProperties(size=1), character)
    # The path is at the size of its maker, FONT_SCALE.
    scaled = np.asarray(vertices, dtype=np.float64).reshape(-1, 2) / text_to_path.FONT_SCALE
    return scaled, np.asarray(codes, dtype=np.uint8), float(width)


@lru_cache(maxsize=512)
def outline(text: str, size: float, align: str = "center") -> Path:
    """Return the shape of a text, set glyph by glyph, with the middle of its digits and capitals at height 0.

    Args:
        text: what the default font has glyphs for.
        size: of the font, in points, the unit of the shape.
        align: which side of the text is at 0: "center" or "right".
    """
    from matplotlib.path import Path

    glyphs = [_glyph(character) for character in text]
    ends = np.cumsum([width for _, _, width in glyphs])
    anchor = ends[-1] if align == "right" else ends[-1] / 2
    middle = _glyph("0")[0][:, 1].max() / 2
    placed = [
        vertices + np.array([end - width - anchor, -middle])
        for (vertices, _, width), end in zip(glyphs, ends, strict=True)
    ]
    return Path(size * np.concatenate(placed), np.concatenate([codes for _, codes, _ in glyphs]))


def draw_outlines(
    axes: Axes, shapes: Sequence[Path], places: Sequence[tuple[float, float]], colours: Sequence[str], within: Transform
) -> None:
    """Draw outlines at places.

    Args:
        axes: where to.
        shapes: m outlines.
        places: m points (x, y).
        colours: m colours.
        within: what the places are coordinates of, such as `axes.transData`.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.transforms import Affine2D

    assert axes.figure is not None
    drawn = PathCollection(shapes, offsets=places, offset_transform=within, facecolors=colours, linewidths=0)
    drawn.set_transform(Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    drawn.set_clip_on(False)
    axes.add_collection(drawn, autolim=False)
