"""Restoration of global and model state: random number generators, train/eval modes, hooks and configs."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from lightning_attnflow.errors import InputError

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_REGISTRIES = ("_parameters", "_buffers", "_modules")


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the global RNG states of Python, NumPy and torch (CPU, CUDA, MPS) on exit."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 global state
    initialized = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if initialized else None  # asking would initialise CUDA
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def seeded_rng(sequence: np.random.SeedSequence) -> Iterator[None]:
    """Seed the global RNGs of Python, NumPy and torch, and restore their states on exit."""
    words = sequence.generate_state(3)
    with preserve_rng():
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))  # noqa: NPY002 user code may draw from it
        if torch.cuda.is_available():
            torch.manual_seed(int(words[2]))
        else:  # torch.manual_seed would record each seed, with a traceback, for a CUDA device that never comes
            torch.default_generator.manual_seed(int(words[2]))
        yield


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode; on exit restore modes, attributes, submodules, hooks, configs and global RNG states.

    A model that is compiled by ``module.compile()`` is run without compilation, which would compile the hooks too.
    Some models change in their first forward pass: BigBird replaces its attention for short sentences for good.

    Modes are restored one by one because a user may keep part of the model in eval mode on purpose. Hooks are restored
    because transformers installs recording hooks on first use and leaves them in the model.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval())
        >>> with eval_mode(model):
        ...     [module.training for module in model]
        [False, False]
        >>> [module.training for module in model]
        [True, False]
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    hooks = [{name: getattr(module, name).copy() for name in _HOOK_TABLES} for module in modules]
    attributes = [dict(vars(module)) for module in modules]
    registries = [{name: dict(getattr(module, name)) for name in _REGISTRIES} for module in modules]
    configs = [(config, dict(vars(config))) for config in configs_of(model)]
    try:
        with preserve_rng():
            _declare_outputs(modules)
            for module in modules:
                if getattr(module, "_compiled_call_impl", None) is not None:
                    module._compiled_call_impl = None
            model.eval()
            yield
    finally:
        for config, found in configs:
            vars(config).clear()
            vars(config).update(found)
        for module, mode, tables, own, parts in zip(modules, modes, hooks, attributes, registries, strict=True):
            vars(module).clear()
            vars(module).update(own)
            for name, part in parts.items():
                registry = getattr(module, name)
                registry.clear()
                registry.update(part)
            module.training = mode
            for name, table in tables.items():
                current = getattr(module, name)
                for key in set(current) - set(table):
                    del current[key]


@contextmanager
def gradients_enabled(model: nn.Module) -> Iterator[None]:
    """Enable gradients inside no_grad and inference_mode, which validation loops of Lightning use."""
    if any(tensor.is_inference() for tensor in chain(model.parameters(), model.buffers())):
        raise InputError(
            "model",
            got="tensors created in inference mode, which have no gradients",
            expected="a model created outside torch.inference_mode()",
            remedy="Load the model outside inference_mode, or use a game or attention method.",
        )
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def _declare_outputs(modules: list[nn.Module]) -> None:
    """Tell transformers which outputs its models can record.

    It does so in their constructor, which is not called when a model is unpickled, as in every process of ddp_spawn.
    """
    transformers = sys.modules.get("transformers.modeling_utils")
    registry: Any = getattr(transformers, "_CAN_RECORD_REGISTRY", None)
    for module in modules if isinstance(registry, dict) else ():
        if hasattr(module, "_can_record_outputs"):
            dict.__setitem__(registry, str(type(module)), module._can_record_outputs)


def configs_of(model: nn.Module) -> list[Any]:
    """Return all transformers configs of a model and its modules, nested ones included, without duplicates."""
    pending = [module.config for module in model.modules() if hasattr(module, "config")]
    found: dict[int, Any] = {}
    while pending:
        config = pending.pop()
        if hasattr(config, "_attn_implementation") and id(config) not in found:
            found[id(config)] = config
            pending.extend(vars(config).values())
    return list(found.values())
