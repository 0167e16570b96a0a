"""One adapter for each Lightning logger: figures, tables, histograms and pages in the form that its platform shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._files import write_text
from lightning_attnflow._optional import require

HISTOGRAM_BINS = 30


@dataclass(frozen=True)
class Table:
    """A table as Markdown, for people, and as columns and rows, for platforms that sort and filter.

    Example:
        >>> print(Table("| word |", ("word", "layer 0"), [["fine", 0.25], ["film", 0.75]]).to_csv(), end="")
        word,layer 0
        fine,0.25
        film,0.75
    """

    markdown: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_csv(self) -> str:
        """Return the columns and rows as CSV."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


class MediaLogger(Protocol):
    """Adapter of one Lightning logger. Tags look like ``attnflow/probe_00``; steps are those of the logged metrics."""

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image (height, width, 3)."""

    def log_table(self, tag: str, table: Table, step: int) -> None:
        """Log a table."""

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log the distribution of values (n,)."""

    def log_page(self, tag: str, html: str, step: int) -> None:
        """Log an HTML page, which replaces the page logged before."""


class TensorBoardMedia:
    """Images, text and histograms tabs of TensorBoard."""

    def __init__(self, logger: Any) -> None:
        self._logger, self._writer = logger, logger.experiment

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image as pixels, because ``add_figure`` imports pyplot."""
        self._writer.add_image(_prefixed(self._logger, tag), pixels, step, dataformats="HWC")

    def log_table(self, tag: str, table: Table, step: int) -> None:
        """Add a Markdown text."""
        self._writer.add_text(_prefixed(self._logger, tag), table.markdown, step)

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Add a histogram."""
        self._writer.add_histogram(_prefixed(self._logger, tag), values, step, bins=HISTOGRAM_BINS)

    def log_page(self, tag: str, html: str, step: int) -> None:  # noqa: ARG002
        """Write ``<tag>.html`` to the log directory, because TensorBoard removes the scripts of a page."""
        _write(Path(self._logger.log_dir) / f"{tag}.html", html)


class WandbMedia:
    """Media panels of Weights & Biases; ``WandbLogger`` logs the step as ``trainer/global_step``."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image panel, with the step as its caption."""
        self._logger.log_image(tag, [pixels], step=step, caption=[f"step {step}"])

    def log_table(self, tag: str, table: Table, step: int) -> None:
        """Log a ``wandb.Table`` as ``<tag>_table``, because a key has media of one kind only."""
        self._logger.log_table(f"{tag}_table", list(table.columns), [list(row) for row in table.rows], step=step)

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log a histogram panel."""
        histogram = np.histogram(values, bins=HISTOGRAM_BINS)
        self._logger.log_metrics({tag: self._wandb().Histogram(np_histogram=histogram)}, step)

    def log_page(self, tag: str, html: str, step: int) -> None:
        """Log an HTML panel."""
        self._logger.log_metrics({tag: self._wandb().Html(html, inject=False)}, step)

    def _wandb(self) -> Any:
        return require("wandb", extra="wandb", purpose="media of WandbLogger")


class MLFlowMedia:
    """Images with a step slider, and artifacts of the run; MLflow has no histograms."""

    def __init__(self, logger: Any) -> None:
        self._logger, self._client, self._run = logger, logger.experiment, logger.run_id

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image of the run by key and step."""
        self._client.log_image(self._run, pixels, key=_prefixed(self._logger, tag), step=step)

    def log_table(self, tag: str, table: Table, step: int) -> None:
        """Log the artifact ``<tag>/step_<step>.csv``, which MLflow shows as a table."""
        self._client.log_text(self._run, table.to_csv(), f"{_prefixed(self._logger, tag)}/step_{step:06d}.csv")

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log nothing."""

    def log_page(self, tag: str, html: str, step: int) -> None:  # noqa: ARG002
        """Log the artifact ``<tag>.html``."""
        self._client.log_text(self._run, html, f"{_prefixed(self._logger, tag)}.html")


class CometMedia:
    """Images, tables, histograms and pages as assets of a Comet experiment."""

    def __init__(self, logger: Any) -> None:
        self._logger, self._experiment = logger, logger.experiment

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image of the Graphics tab."""
        self._experiment.log_image(pixels, name=_prefixed(self._logger, tag, "_"), step=step)

    def log_table(self, tag: str, table: Table, step: int) -> None:
        """Log the asset ``<tag>_step_<step>.csv``."""
        name = f"{_prefixed(self._logger, tag, '_')}_step_{step:06d}.csv"
        self._experiment.log_table(name, [list(row) for row in table.rows], headers=list(table.columns))

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Log a histogram of the Histograms tab."""
        self._experiment.log_histogram_3d(values, name=_prefixed(self._logger, tag, "_"), step=step)

    def log_page(self, tag: str, html: str, step: int) -> None:
        """Log the asset ``<tag>.html``."""
        name = f"{_prefixed(self._logger, tag, '_')}.html"
        self._experiment.log_asset_data(html, name=name, overwrite=True, step=step)


class FileMedia:
    """PNG, Markdown and HTML files in a directory."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def log_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Write ``<tag>_step_<step>.png``."""
        path = self._directory / f"{tag}_step_{step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = require("PIL.Image", extra="plots", purpose="PNG files").fromarray(pixels)
        image.save(path, compress_level=3)

    def log_table(self, tag: str, table: Table, step: int) -> None:
        """Write ``<tag>_step_<step>.md``."""
        _write(self._directory / f"{tag}_step_{step:06d}.md", table.markdown + "\n")

    def log_histogram(self, tag: str, values: NDArray[np.float64], step: int) -> None:
        """Write nothing: one file per layer and step would hide the images, and scalars summarise the values."""

    def log_page(self, tag: str, html: str, step: int) -> None:  # noqa: ARG002
        """Write ``<tag>.html``."""
        _write(self._directory / f"{tag}.html", html)


_ADAPTERS: dict[str, Any] = {
    "TensorBoardLogger": TensorBoardMedia,
    "WandbLogger": WandbMedia,
    "MLFlowLogger": MLFlowMedia,
    "CometLogger": CometMedia,
}
_PACKAGES = ("lightning.pytorch.loggers", "pytorch_lightning.loggers")  # the same classes under two names


def media_loggers(loggers: Sequence[Any], default_root_dir: str | Path) -> list[MediaLogger]:
    """Return an adapter for every logger except the dummy loggers of ``fast_dev_run``.

    Loggers without an adapter get files in their ``log_dir``, or in ``save_dir/name/version``, where checkpoints are.

    Args:
        loggers: ``trainer.loggers``, of ``lightning.pytorch`` or ``pytorch_lightning``.
        default_root_dir: ``trainer.default_root_dir``, for loggers without a directory.
    """
    adapters: list[MediaLogger] = []
    for logger in loggers:
        known = logger_kinds(logger)
        if "DummyLogger" in known:
            continue
        adapter = next((_ADAPTERS[name] for name in known if name in _ADAPTERS), None)
        adapters.append(adapter(logger) if adapter else FileMedia(log_directory(logger, default_root_dir)))
    return adapters


def logger_kinds(logger: Any) -> list[str]:
    """Return the names of Lightning's logger classes that a logger is an instance of, its own first."""
    return [kind.__name__ for kind in type(logger).__mro__ if kind.__module__.startswith(_PACKAGES)]


def log_directory(logger: Any, default_root_dir: str | Path) -> Path:
    """Return the directory of the files of a logger: ``log_dir``, or ``save_dir/name/version``."""
    if logger.log_dir:
        return Path(logger.log_dir)
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or default_root_dir) / str(logger.name) / version


def _prefixed(logger: Any, tag: str, joint: str = "-") -> str:
    """Return the tag with the prefix that the logger gives to metrics."""
    prefix = getattr(logger, "_prefix", "")
    return f"{prefix}{joint}{tag}" if prefix else tag


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
