"""One adapter a Lightning logger: figures, texts and histograms to where that logger shows them, else to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from numpy.typing import NDArray

HISTOGRAM_BINS = 30


class Sink(Protocol):
    """Where one logger's figures, texts and histograms go. Tags look like `attnflow/probe_00`."""

    def image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Show pixels (height, width, 3)."""

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Show a text."""

    def histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Show the distribution of values (n,)."""


def sinks_for(loggers: Sequence[Logger], default_root_dir: str | Path) -> list[Sink]:
    """Return the sink of every logger; those of `fast_dev_run`, which log nothing, have none.

    Args:
        loggers: `trainer.loggers`.
        default_root_dir: `trainer.default_root_dir`, for loggers without a directory of their own.
    """
    return [_sink_for(logger, default_root_dir) for logger in loggers if not isinstance(logger, DummyLogger)]


def _sink_for(logger: Logger, default_root_dir: str | Path) -> Sink:
    if isinstance(logger, TensorBoardLogger):
        return TensorBoardSink(logger)
    if isinstance(logger, WandbLogger):
        return WandbSink(logger)
    return FileSink(logger.log_dir or logger.save_dir or default_root_dir)


class TensorBoardSink:
    """The images, text and histograms tabs of TensorBoard."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._writer: Any = logger.experiment

    def image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add to the images tab (as pixels: `add_figure` would import pyplot)."""
        self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Add to the text tab."""
        self._writer.add_text(tag, markdown, step)

    def histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Add to the histograms and distributions tabs."""
        self._writer.add_histogram(tag, values, step, bins=HISTOGRAM_BINS)


class WandbSink:
    """Media panels of Weights & Biases; the step is logged beside, as `WandbLogger` does."""

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image panel."""
        self._logger.log_image(tag, [pixels], step=None, caption=[f"step {step}"])

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Log the text as a one-cell table."""
        self._logger.log_text(f"{tag}_words", columns=["step", "table"], data=[[str(step), markdown]])

    def histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log a histogram panel."""
        counts, edges = np.histogram(values, bins=HISTOGRAM_BINS)
        from wandb import Histogram

        payload: Mapping[str, Any] = {tag: Histogram(np_histogram=(counts, edges)), "trainer/global_step": step}
        self._logger.experiment.log(payload)


class FileSink:
    """A PNG and a Markdown file a step for loggers that show neither, below `directory`."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Write `<tag>_step_<step>.png`."""
        from PIL import Image

        Image.fromarray(pixels).save(self._path(tag, step, "png"), compress_level=3)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Write `<tag>_step_<step>.md`."""
        self._path(tag, step, "md").write_text(markdown + "\n", encoding="utf-8")

    def histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Write nothing: a file a layer and epoch would bury the pictures, and the scalars sum the values up."""

    def _path(self, tag: str, step: int, suffix: str) -> Path:
        path = self._directory / f"{tag}_step_{step:06d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
