"""Short texts drawn as shapes: many of them in about the time that matplotlib takes for one text of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path
    from matplotlib.transforms import Transform


@lru_cache(maxsize=512)
def outline(text: str, size: float, align: str = "center") -> Path:
    """Return the shape of a text, made once, with the middle of its digits or capitals at height 0.

    Args:
        text: what the default font has glyphs for.
        size: of the font, in points, the unit of the shape.
        align: which side of the text is at 0: "center" or "right".
    """
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    shape = TextPath((0, 0), text, size=size)
    box = shape.get_extents()
    height = TextPath((0, 0), "0", size=size).get_extents().y1
    anchor = box.x1 if align == "right" else (box.x0 + box.x1) / 2
    return shape.transformed(Affine2D().translate(-anchor, -height / 2))


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
