"""State of a model and of the process that a capture must restore."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def everything(model: Any) -> dict[str, Any]:
    """Return all state that a capture must restore, comparable with ==."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global state is tested
    modules = list(model.modules())
    return {
        "modes": [module.training for module in modules],
        "hooks": [
            [list(getattr(module, name)) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for module in modules
        ],
        "attributes": [sorted(vars(module)) for module in modules],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "state": [(name, tensor.tolist()) for name, tensor in model.state_dict().items()],
        "config": [(id(m.config), m.config.to_dict(), dict(vars(m.config))) for m in modules if hasattr(m, "config")],
        "implementation": model.config._attn_implementation,
        "python": random.getstate(),
        "numpy": [part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state],
        "torch": torch.get_rng_state().tolist(),
    }


def unusual(model: Any, implementation: str) -> Any:
    """Give a model mixed modes, frozen parameters, gradients and hooks."""
    model.set_attn_implementation(implementation)
    for index, module in enumerate(model.modules()):
        module.training = index % 3 != 0
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
        parameter.grad = torch.full_like(parameter, 0.25) if index % 4 == 0 else None
    model.register_forward_hook(lambda *_: None)
    return model
