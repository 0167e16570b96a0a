"""The Data Map of Swayamdipta et al. (2020): how confidently, and how variably, each training example was predicted."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from lightning_attnflow._figures import NEUTRAL, OPPOSES, SUPPORTS, new_axes
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lightning_attnflow.valuation.training_dynamics import TrainingDynamics

_GROUPS = (  # shares of the epochs with a correct prediction: above, up to
    (-0.1, 0.0, OPPOSES, "correct in no epoch"),
    (0.0, 0.999, NEUTRAL, "in some epochs"),
    (0.999, 1.1, SUPPORTS, "in every epoch"),
)
_REGIONS = (  # position in the axes, name
    (0.01, 0.99, "easy to learn", "left", "top"),
    (0.01, 0.01, "hard to learn (wrong labels gather here)", "left", "bottom"),
    (0.99, 0.5, "ambiguous", "right", "center"),
)


def data_map(dynamics: TrainingDynamics, *, ax: Axes | None, title: str) -> Axes:
    """Draw mean confidence against variability, coloured by the share of correct epochs."""
    if np.isnan(dynamics.confidence).all():
        raise InputError("plot()", got="a task without classes", expected="the confidence of the given label")
    ax = new_axes(6.4, 4.8) if ax is None else ax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # examples without an epoch have NaN
        correct = np.nanmean(np.where(np.isnan(dynamics.margin), np.nan, dynamics.margin > 0), axis=0)
    size = float(np.clip(6000 / max(1, len(dynamics)), 3, 22))
    variability, confidence = dynamics.variability, dynamics.mean_confidence
    for low, high, colour, label in _GROUPS:
        chosen = (correct > low) & (correct <= high)
        name = f"{label} ({int(chosen.sum()):,})"
        ax.scatter(variability[chosen], confidence[chosen], s=size, color=colour, alpha=0.6, linewidths=0, label=name)
    ax.set(
        xlabel="variability: standard deviation of the probability of the given label over the epochs",
        ylabel="confidence: mean probability of the given label",
        title=f"{title}: {counted(len(dynamics), 'example', ',')}, {counted(dynamics.n_epochs, 'epoch')}",
        ylim=(-0.03, 1.03),
    )
    ax.set_xlim(left=-0.005)
    for x, y, name, horizontal, vertical in _REGIONS:
        ax.text(x, y, name, transform=ax.transAxes, ha=horizontal, va=vertical, color="0.35")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize="small")
    return ax
