"""Data valuation: Data Shapley for any training procedure, and KNN-Shapley.

The names are imported on first use, so that workers import only what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_attnflow._lazy import lazy_exports

if TYPE_CHECKING:
    from lightning_attnflow.valuation.data_shapley import DataShapley
    from lightning_attnflow.valuation.features import encode_texts
    from lightning_attnflow.valuation.knn import knn_game, knn_shapley
    from lightning_attnflow.valuation.label_errors import find_label_errors
    from lightning_attnflow.valuation.label_errors_result import LabelErrors
    from lightning_attnflow.valuation.ledger import Ledger, ledger_result, merge_ledgers
    from lightning_attnflow.valuation.ranking import Ranking
    from lightning_attnflow.valuation.reading import read_sentences
    from lightning_attnflow.valuation.removal import RemovalCurve
    from lightning_attnflow.valuation.result import DataShapleyResult
    from lightning_attnflow.valuation.sentences import LabelledTexts, split_sentences
    from lightning_attnflow.valuation.text_label_errors import find_text_label_errors
    from lightning_attnflow.valuation.text_ranking import RankedTexts, rank_texts
    from lightning_attnflow.valuation.training_dynamics import TrainingDynamics
    from lightning_attnflow.valuation.utilities.frozen import FrozenEncoderUtility
    from lightning_attnflow.valuation.utilities.trainer import TrainerUtility

_HOMES = {
    "DataShapley": "data_shapley",
    "DataShapleyResult": "result",
    "FrozenEncoderUtility": "utilities.frozen",
    "LabelErrors": "label_errors_result",
    "LabelledTexts": "sentences",
    "Ledger": "ledger",
    "TrainerUtility": "utilities.trainer",
    "TrainingDynamics": "training_dynamics",
    "RankedTexts": "text_ranking",
    "Ranking": "ranking",
    "RemovalCurve": "removal",
    "encode_texts": "features",
    "find_label_errors": "label_errors",
    "find_text_label_errors": "text_label_errors",
    "knn_game": "knn",
    "knn_shapley": "knn",
    "ledger_result": "ledger",
    "merge_ledgers": "ledger",
    "rank_texts": "text_ranking",
    "read_sentences": "reading",
    "split_sentences": "sentences",
}

__all__ = [
    "DataShapley",
    "DataShapleyResult",
    "FrozenEncoderUtility",
    "LabelErrors",
    "LabelledTexts",
    "Ledger",
    "RankedTexts",
    "Ranking",
    "RemovalCurve",
    "TrainerUtility",
    "TrainingDynamics",
    "encode_texts",
    "find_label_errors",
    "find_text_label_errors",
    "knn_game",
    "knn_shapley",
    "ledger_result",
    "merge_ledgers",
    "rank_texts",
    "read_sentences",
    "split_sentences",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
