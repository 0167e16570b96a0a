"""Figure and table of the training dynamics for the loggers, and the texts of the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import numpy as np

from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.plots.heatmap import rendered
from lightning_attnflow.plots.media_loggers import Table, media_loggers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lightning_attnflow.valuation.dynamics_recorder import DynamicsRecorder
    from lightning_attnflow.valuation.training_dynamics import TrainingDynamics

_EXPLANATIONS = {
    "mean margin": "Training examples with the lowest mean margin: logit of the given label minus the largest other "
    "logit, averaged over the epochs. Below 0 the model preferred another label.",
    "negative mean loss": "Training examples with the largest mean loss over the epochs.",
}


def log_dynamics(trainer: pl.Trainer, dynamics: TrainingDynamics, n_suspicious: int) -> None:
    """Log the table of the most suspicious examples and, from the second epoch on, the Data Map."""
    loggers = media_loggers(trainer.loggers, trainer.default_root_dir)
    if not loggers:
        return
    step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step that log_dict uses
    errors = dynamics.label_errors()
    rows = errors.to_rows(n_suspicious)
    markdown = f"{_EXPLANATIONS[errors.score_name]}\n\n{errors.markdown(n_suspicious)}"
    table = Table(markdown, list(rows[0]), [list(row.values()) for row in rows])
    pixels = None
    if dynamics.n_epochs > 1 and not np.isnan(dynamics.confidence).all():
        try:
            pixels = rendered(dynamics.plot().figure)  # type: ignore[arg-type]
        except MissingDependencyError:
            pixels = None
    for logger in loggers:
        logger.log_table("dynamics/suspicious_sentences", table, step)
        if pixels is not None:
            logger.log_image("dynamics/data_map", pixels, step)


def example_texts(
    recorder: DynamicsRecorder,
    tokenizer: PreTrainedTokenizerBase | None,
    given: Sequence[str] | None,
    *,
    chosen: Sequence[int] | None = None,
) -> list[str]:
    """Texts of the examples, empty for those that are not ``chosen``; an empty list if texts are unknown."""
    wanted = range(len(recorder)) if chosen is None else chosen
    texts = [""] * len(recorder)
    if given is not None:
        keys = recorder.keys()
        for position in wanted:
            index = keys[position][0]
            try:
                texts[position] = given[index]
            except (LookupError, TypeError):
                expected = f"a text for index {index!r}"
                raise InputError("texts", got=counted(len(given), "text"), expected=expected) from None
    elif tokenizer is not None and (tokens := recorder.tokens()):
        for position in wanted:
            if position < len(tokens):
                texts[position] = str(tokenizer.decode(tokens[position], skip_special_tokens=True))
    else:
        return []
    return texts
