"""Heat maps, tables and histograms for Lightning loggers; loggers without media support get files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from numpy.typing import NDArray

from lightning_attnflow._optional import require
from lightning_attnflow.errors import MissingDependencyError
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots.heatmap import draw_heatmap, rendered
from lightning_attnflow.plots.sentence_flow import SentenceFlow, layer_name
from lightning_attnflow.plots.tables import conductance_table, top_words_table

HISTOGRAM_BINS = 30


class MediaLogger(Protocol):
    """Adapter of one Lightning logger. Tags look like ``attnflow/probe_00``."""

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image (height, width, 3)."""

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Log a Markdown text."""

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log the distribution of values (n,)."""


class TensorBoardMedia:
    """Images, text and histograms tabs of TensorBoard."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._writer: Any = logger.experiment

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image as pixels, because ``add_figure`` imports pyplot."""
        self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Add a text."""
        self._writer.add_text(tag, markdown, step)

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Add a histogram."""
        self._writer.add_histogram(tag, values, step, bins=HISTOGRAM_BINS)


class WandbMedia:
    """Media panels of Weights & Biases."""

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image panel, with the step as its caption."""
        self._logger.log_image(tag, [pixels], step=None, caption=[f"step {step}"])

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Log a table with one row."""
        self._logger.log_text(f"{tag}_words", columns=["step", "table"], data=[[str(step), markdown]])

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log a histogram panel; the step is a value of its own, as in ``WandbLogger.log_metrics``."""
        histogram = require("wandb", extra="wandb", purpose="histograms").Histogram(
            np_histogram=np.histogram(values, bins=HISTOGRAM_BINS)
        )
        self._logger.experiment.log({tag: histogram, "trainer/global_step": step})


class FileMedia:
    """PNG and Markdown files in a directory."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Write ``<tag>_step_<step>.png``."""
        require("PIL.Image", extra="plots", purpose="PNG files").fromarray(pixels).save(
            self._path(tag, step, "png"), compress_level=3
        )

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Write ``<tag>_step_<step>.md``."""
        self._path(tag, step, "md").write_text(markdown + "\n", encoding="utf-8")

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Write nothing: one file per layer and epoch would hide the images, and scalars summarise the values."""

    def _path(self, tag: str, step: int, suffix: str) -> Path:
        path = self._directory / f"{tag}_step_{step:06d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def media_loggers(loggers: Sequence[Logger], default_root_dir: str | Path) -> list[MediaLogger]:
    """Return an adapter for every logger except the dummy loggers of ``fast_dev_run``.

    Args:
        loggers: ``trainer.loggers``.
        default_root_dir: ``trainer.default_root_dir``, for loggers without a directory.
    """
    return [_media_logger(logger, default_root_dir) for logger in loggers if not isinstance(logger, DummyLogger)]


def log_sentence(
    loggers: Sequence[MediaLogger], name: str, flow: SentenceFlow | ConductanceFlow | None, title: str, step: int
) -> bool:
    """Log the heat map and the table of one sentence as ``attnflow/<name>``.

    Returns:
        False if the heat map was not drawn because matplotlib is not installed.
    """
    if flow is None:
        return True
    if isinstance(flow, ConductanceFlow):
        table = conductance_table(flow, title=title)
        draw: Callable[[], Any] = partial(flow.plot, title=title)
    else:
        table = top_words_table(flow)
        draw = partial(draw_heatmap, None, flow, title=title)
    for logger in loggers:
        logger.log_text(f"attnflow/{name}", table, step)
    try:
        pixels = rendered(draw().get_figure(root=True))
    except MissingDependencyError:
        return False
    for logger in loggers:
        logger.log_image(f"attnflow/{name}", pixels, step)
    return True


def log_histograms(loggers: Sequence[MediaLogger], flows: Sequence[SentenceFlow], step: int) -> None:
    """Log a histogram of the attention flow of each layer as ``attnflow/attention_flow/layer_00`` and so on."""
    n_layers = flows[0].n_layers if flows else 0
    for layer in range(n_layers):
        # in multiples of the uniform share, so that sentences of all lengths are comparable
        values = np.concatenate([flow.values[layer] * len(flow.labels) / flow.values[layer].sum() for flow in flows])
        for logger in loggers:
            logger.log_histogram(f"attnflow/attention_flow/{layer_name(layer, n_layers)}", values, step)


def _media_logger(logger: Logger, default_root_dir: str | Path) -> MediaLogger:
    if isinstance(logger, TensorBoardLogger):
        return TensorBoardMedia(logger)
    if isinstance(logger, WandbLogger):
        return WandbMedia(logger)
    return FileMedia(logger.log_dir or logger.save_dir or default_root_dir)
