"""Loss, margin and prediction of each example of a batch, and hashes that identify examples, on the batch's device."""

from __future__ import annotations

from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from lightning_attnflow.errors import InputError

Task = Literal["classification", "multi_label", "regression", "token_classification", "causal_lm"]
TASKS = ("auto", "classification", "multi_label", "regression", "token_classification", "causal_lm")
IGNORED = -100  # default label of tokens without a loss in cross_entropy
STATISTICS = ("loss", "margin", "confidence", "error_norm", "prediction", "label")

# Multipliers of splitmix64 (Steele et al. 2014), as signed 64-bit integers
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def example_statistics(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Return float64 (B, 6), the columns ``STATISTICS``; NaN where a task does not define one.

    Args:
        logits: (B, C), or (B, T, C) for tokens. One logit for each example, (B,) or (B, 1), is that of class 1 of two.
        labels: int (B,) or (B, 1), float (B, C) for several labels and regression, or int (B, T) for tokens.
        task: what is predicted.

    Raises:
        InputError: shapes that the task does not have.
    """
    logits = logits[:, None] if logits.ndim == 1 else logits
    if task == "classification":
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
        _check_shapes(labels.numel() == len(logits), logits, labels, task)
        labels = labels.reshape(-1)
        if labels.is_floating_point():
            labels = torch.where(labels == labels.round(), labels, -1)  # a fraction is no class
        columns = _classes(logits.float(), labels.long())
    elif task == "multi_label":
        _check_shapes(labels.numel() == logits.numel(), logits, labels, task)
        targets = labels.float().reshape(logits.shape)
        signed = logits.float() * (2 * targets - 1)
        margin = signed.amin(dim=1)  # the label of the example that is most likely wrong
        norm = (logits.float().sigmoid() - targets).norm(dim=1)
        loss = binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(dim=1)
        columns = (loss, margin, margin.sigmoid(), norm)
    elif task == "regression":
        _check_shapes(labels.numel() == logits.numel(), logits, labels, task)
        loss = mse_loss(logits.float().flatten(1), labels.float().reshape(len(labels), -1), reduction="none")
        columns = (loss.mean(dim=1),)
    elif task == "token_classification":
        columns = _tokens(logits.float(), labels)
    else:
        columns = (_next_token_loss(logits, labels),)
    missing = [torch.full((len(logits),), torch.nan, device=logits.device)] * (len(STATISTICS) - len(columns))
    return torch.stack([column.double() for column in (*columns, *missing)], dim=1)


def find_task(logits: Tensor, labels: Tensor, *, is_causal: bool = False, problem_type: str | None = None) -> Task:
    """Return the task that fits the shapes of logits and labels.

    Args:
        logits: see ``example_statistics``.
        labels: see ``example_statistics``.
        is_causal: whether tokens are predicted from those before.
        problem_type: that of the configuration of a Hugging Face model.

    Raises:
        InputError: no task fits.
    """
    if logits.ndim == 3 and labels.shape == logits.shape[:2]:
        return "causal_lm" if is_causal else "token_classification"
    n_logits = logits.shape[1] if logits.ndim == 2 else 1
    if logits.ndim in (1, 2) and labels.shape[:1] == logits.shape[:1]:
        is_equal = labels.numel() == logits.numel()
        if is_equal and problem_type in ("regression", "multi_label_classification"):
            return "regression" if problem_type == "regression" else "multi_label"
        if is_equal and n_logits == 1:  # zeros and ones are the classes of a binary cross-entropy
            return "classification" if _is_binary(labels) else "regression"
        if labels.numel() == len(labels) and not labels.is_floating_point():
            return "classification"
        if is_equal and _is_distribution(labels):
            raise InputError(
                "labels of a training batch",
                got="probabilities of the classes",
                expected="one class for each example",
                remedy='Pass labels=lambda batch: batch["labels"].argmax(dim=1), or task=.',
            )
        if is_equal:
            return "multi_label" if _is_binary(labels) else "regression"
    raise InputError(
        "logits and labels",
        got=f"shapes {tuple(logits.shape)} and {tuple(labels.shape)} ({labels.dtype})",
        expected="logits (B, C) with labels (B,) or (B, C), or logits (B, T, C) with labels (B, T)",
        remedy="Pass outputs= and labels=.",
    )


def _is_binary(labels: Tensor) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _is_distribution(labels: Tensor) -> bool:
    """Whether the rows are probabilities that sum to 1, and not all are 0 or 1."""
    sums = labels.float().reshape(len(labels), -1).sum(dim=1)
    return bool((labels >= 0).all() and ((sums - 1).abs() < 1e-3).all()) and not _is_binary(labels)


def _check_shapes(fits: bool, logits: Tensor, labels: Tensor, task: str) -> None:
    if not fits:
        raise InputError(
            f"logits and labels, task {task!r}",
            got=f"shapes {tuple(logits.shape)} and {tuple(labels.shape)}",
            expected="one label for each example" if task == "classification" else "equal shapes",
        )


def _classes(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Statistics of examples with one class each; NaN for labels that are no class, which the loss has to ignore."""
    ignored = (labels < 0) | (labels >= logits.shape[1])
    target = labels.clamp(0, logits.shape[1] - 1)[:, None]
    probability = logits.softmax(dim=1)
    own = logits.gather(1, target)[:, 0]
    other = logits.scatter(1, target, -torch.inf).amax(dim=1)
    confidence = probability.gather(1, target)[:, 0]
    norm = (probability.square().sum(dim=1) - 2 * confidence + 1).clamp(min=0).sqrt()
    loss = logits.logsumexp(dim=1) - own
    columns = (loss, own - other, confidence, norm, logits.argmax(dim=1).double(), labels.double())
    return tuple(column.masked_fill(ignored, torch.nan) for column in columns)


def _tokens(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Mean loss of the tokens, and margin, confidence and error norm of the token with the smallest margin."""
    per_token = _classes(logits.flatten(0, 1), labels.flatten())
    loss, margin, confidence, norm = (column.view(labels.shape) for column in per_token[:4])
    worst = margin.nan_to_num(torch.inf, torch.inf).argmin(dim=1, keepdim=True)
    return (loss.nanmean(dim=1), *(column.gather(1, worst)[:, 0] for column in (margin, confidence, norm)))


def _next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of the next tokens, one example after the other to save memory."""
    losses = [
        cross_entropy(row[:-1].float(), tokens[1:], ignore_index=IGNORED)  # NaN without any token
        for row, tokens in zip(logits, labels, strict=True)
    ]
    return torch.stack(losses)


def content_hash(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return an int64 hash (B,) of each row; padding, where the mask is 0, does not change it.

    Example:
        >>> left, right = torch.tensor([[0, 0, 7, 9]]), torch.tensor([[7, 9, 0]])
        >>> masks = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 0]])
        >>> bool(content_hash(left, masks[0]) == content_hash(right, masks[1]))
        True
    """
    rows = values.reshape(len(values), -1)
    if rows.is_floating_point():
        rows = rows.float().contiguous().view(torch.int32)
    if mask is None:
        present = torch.ones(rows.shape, dtype=torch.int64, device=rows.device)
    else:
        present = (mask.reshape(len(mask), -1) != 0).long()
    position = present.cumsum(dim=1)  # 1, 2, ... on the tokens of the example
    mixed = _mixed(rows.long() * _MIX[0] + position * _MIX[1])
    return _mixed((mixed * present).sum(dim=1) + present.sum(dim=1))


def _mixed(values: Tensor) -> Tensor:
    """Mix the bits of int64 values (splitmix64); overflow wraps."""
    for shift, factor in ((30, _MIX[0]), (27, _MIX[1])):
        values = (values ^ ((values >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return values ^ ((values >> 31) & ((1 << 33) - 1))


def as_arrays(parts: list[Tensor]) -> NDArray[Any]:
    """Concatenate tensors of one device and return them as one array."""
    array: NDArray[Any] = torch.cat(parts).cpu().numpy()
    return array
