"""Backward rules of finite differences: a chain rule that is exact for steps of any size.

The rows of a batch are the points x_0, ..., x_m of a path, and row k of a gradient belongs to the step from x_k to
x_{k+1}. Inside `DifferenceRules` every differentiable operation f gets a backward rule with multipliers M such that

    <M_in, x_{k+1} - x_k> = <M_out, f(x_{k+1}) - f(x_k)>

up to rounding. The composition keeps the equation, so that multipliers of the payoff at any layer times the change of
its states sum to the change of the payoff. As the step shrinks, a multiplier becomes the gradient. The rules are

    linear operations   their transpose, as always
    a * b, a @ b        g * mean(b) and g * mean(a), means of both ends
    elementwise f       g * (f(x') - f(x)) / (x' - x)
    softmax             L (g - sum(L g) / sum(L)), L the logarithmic mean of the probabilities at both ends
    layer and RMS norm  composed of the above.

Other operations keep their gradient at x_k, which is exact only in the limit of small steps.

Source: discrete gradients (McLachlan, Quispel & Robidoux 1999); for elementwise functions the rescale rule of DeepLIFT
(Shrikumar, Greenside & Kundaje 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

# fmt: off
_ELEMENTWISE = (
    "abs", "celu", "clamp", "clamp_max", "clamp_min", "cos", "elu", "erf", "exp", "expm1", "gelu", "hardsigmoid",
    "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "sin",
    "softplus", "softsign", "square", "tanh",
)
_SINGULAR = ("__pow__", "float_power", "log", "log1p", "pow", "reciprocal", "rsqrt", "sqrt")
# fmt: on
_OPERANDS = ("other", "mat2", "batch1", "batch2")  # factors that may be given by name
_SMALL_CHANGE = 1e-5  # about the cube root of the rounding error of float64


class DifferenceRules(TorchFunctionMode):
    """Context in which the operations of a forward pass get the backward rules of finite differences.

    Args:
        n_points: rows of the batch, along the first dimension of every tensor.
    """

    def __init__(self, n_points: int) -> None:
        super().__init__()
        self._n_points = n_points

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        rule = _RULES.get(getattr(function, "__name__", ""))
        if rule is not None and torch.is_grad_enabled():
            args = (*args, *(kwargs.pop(name) for name in _OPERANDS if name in kwargs))
            result = rule(self._n_points, function, *args, **kwargs)
            if result is not None:
                return result
        return function(*args, **kwargs)


def _depends(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _next(rows: Tensor, n_points: int) -> Tensor:
    """The next point of every row; the last point stays."""
    step = len(rows) // n_points  # a dimension may hold points x positions
    return torch.cat([rows[step:], rows[len(rows) - step :]])


def _mean(rows: Tensor, n_points: int) -> Tensor:
    return (rows + _next(rows, n_points)) / 2


def _apply(function: type[Function], *args: Any) -> Tensor:
    result: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return result


def _product(n_points: int, function: Any, left: Any, right: Any, **options: Any) -> Tensor | None:  # noqa: ARG001
    if not _depends(left) or not _depends(right) or options:
        return None
    return _apply(_Product, left, right, n_points)


def _quotient(n_points: int, function: Any, left: Any, right: Any, **options: Any) -> Tensor | None:
    if not _depends(right) or options:
        return None
    inverse: Tensor = _apply(_Elementwise, right, n_points, torch.reciprocal, "reciprocal")
    return _product(n_points, function, left, inverse) if _depends(left) else left * inverse


def _matrix_product(n_points: int, function: Any, left: Any, right: Any, **options: Any) -> Tensor | None:  # noqa: ARG001
    if not _depends(left) or not _depends(right) or options or min(left.ndim, right.ndim) < 3:
        return None
    return _apply(_MatrixProduct, left, right, n_points)


def _added_matrix_product(
    n_points: int, function: Any, added: Any, left: Any, right: Any, *, beta: float = 1, alpha: float = 1
) -> Tensor | None:
    product = _matrix_product(n_points, function, left, right)
    return None if product is None else beta * added + alpha * product


def _elementwise(n_points: int, function: Any, rows: Any, *args: Any, inplace: bool = False, **options: Any) -> Any:  # noqa: ARG001
    if not _depends(rows) or any(map(_depends, (*args, *options.values()))):
        return None
    return _apply(_Elementwise, rows, n_points, lambda values: function(values, *args, **options), function.__name__)


def _softmax(
    n_points: int, function: Any, scores: Any, dim: int | None = -1, *rest: Any, dtype: Any = None, **_: Any
) -> Tensor | None:
    if not _depends(scores):
        return None
    dtype = next((value for value in rest if isinstance(value, torch.dtype)), dtype) or scores.dtype
    is_log = function.__name__ == "log_softmax"
    return _apply(_Softmax, scores.to(dtype), n_points, -1 if dim is None else dim, is_log)


def _centred(rows: Tensor, dims: tuple[int, ...], epsilon: float, n_points: int, *, centre: bool) -> Tensor:
    if centre:
        rows = rows - rows.mean(dims, keepdim=True)
    variance = _apply(_Product, rows, rows, n_points).mean(dims, keepdim=True)
    scale = _apply(_Elementwise, variance + epsilon, n_points, torch.rsqrt, "rsqrt")
    return _apply(_Product, rows, scale, n_points)


def _norm(
    n_points: int,
    function: Any,
    rows: Any,
    shape: Sequence[int],
    weight: Tensor | None = None,
    *rest: Any,
    bias: Tensor | None = None,
    eps: float | None = None,
) -> Tensor | None:
    if not _depends(rows):
        return None
    is_layer_norm = function.__name__ == "layer_norm"
    if is_layer_norm:
        bias, eps = (rest[0] if rest else bias), (rest[1] if len(rest) > 1 else 1e-5 if eps is None else eps)
    else:
        eps = (rest[0] if rest else eps) or torch.finfo(rows.dtype).eps
    result = _centred(rows, tuple(range(-len(shape), 0)), eps, n_points, centre=is_layer_norm)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _attention(
    n_points: int,
    function: Any,  # noqa: ARG001
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 0 in eval mode
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    if not _depends(query) or not _depends(key) or not _depends(value):
        return None
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = _apply(_MatrixProduct, query, key.mT, n_points) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if masked else scores + attn_mask
    return _apply(_MatrixProduct, _apply(_Softmax, scores, n_points, -1, False), value, n_points)


_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys((*_ELEMENTWISE, *_SINGULAR), _elementwise),
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), _product),
    **dict.fromkeys(("div", "divide", "true_divide", "__truediv__"), _quotient),
    **dict.fromkeys(("matmul", "__matmul__", "bmm"), _matrix_product),
    "baddbmm": _added_matrix_product,
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("layer_norm", "rms_norm"), _norm),
    "scaled_dot_product_attention": _attention,
}


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, n_points: int) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.n_points = n_points
        return left * right

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (left, right) = gradients, ctx.saved_tensors
        return (
            (gradient * _mean(right, ctx.n_points)).sum_to_size(left.shape),
            (gradient * _mean(left, ctx.n_points)).sum_to_size(right.shape),
            None,
        )


class _MatrixProduct(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, n_points: int) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.n_points = n_points
        return left @ right

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (left, right) = gradients, ctx.saved_tensors
        return gradient @ _mean(right, ctx.n_points).mT, _mean(left, ctx.n_points).mT @ gradient, None


class _Elementwise(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, n_points: int, function: Callable[[Tensor], Tensor], name: str) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.n_points, ctx.function, ctx.scale = n_points, function, 0.0 if name in _SINGULAR else 1.0
        return function(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (rows,) = gradients, ctx.saved_tensors
        ends = rows.double()
        change = _next(ends, ctx.n_points) - ends
        results = ctx.function(ends)
        with torch.enable_grad():
            middle = _mean(ends, ctx.n_points).requires_grad_()
            (slope,) = torch.autograd.grad(ctx.function(middle).sum(), middle)
        # Rounding makes the quotient inaccurate for small changes, where the slope in the middle is accurate.
        is_large = change.abs() > _SMALL_CHANGE * ends.abs().clamp_min(ctx.scale)
        secant = (_next(results, ctx.n_points) - results) / torch.where(is_large, change, 1.0)
        return gradient * torch.where(is_large, secant, slope).to(gradient.dtype), None, None, None


class _Softmax(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, n_points: int, dim: int, log: bool) -> Tensor:
        logarithms = scores.log_softmax(dim)
        ctx.save_for_backward(logarithms)
        ctx.n_points, ctx.dim, ctx.log = n_points, dim, log
        return logarithms if log else logarithms.exp()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (logarithms,) = gradients, ctx.saved_tensors
        means = _logarithmic_mean(logarithms, _next(logarithms, ctx.n_points))
        total = means.sum(ctx.dim, keepdim=True)
        if ctx.log:
            change = gradient - gradient.sum(ctx.dim, keepdim=True) * means / total
        else:
            change = means * (gradient - (gradient * means).sum(ctx.dim, keepdim=True) / total)
        return change, None, None, None


def _logarithmic_mean(left: Tensor, right: Tensor) -> Tensor:
    """(p - q) / (log p - log q) from the logarithms of p and q; p if both are equal, 0 if one is 0."""
    gap = torch.where(left == right, 0.0, right - left)  # both may be -inf
    is_small = gap.abs() < torch.finfo(left.dtype).eps ** 0.25
    quotient = (right.exp() - left.exp()) / torch.where(is_small, 1.0, gap)
    return torch.where(is_small, ((left + right) / 2).exp() * (1 + gap * gap / 24), quotient)


def directional_gradient(values: Tensor, points: Tensor, gradient: Tensor, n_points: int) -> Tensor:
    """Correct a gradient (m, ...) along each step so that it times the step is the change of the values (m,)."""
    step = _next(points, n_points) - points
    dims = tuple(range(1, points.ndim))
    gap = _next(values, n_points) - values - (gradient * step).sum(dims)
    length = (step * step).sum(dims)
    share = torch.where(length > 0, gap / torch.where(length > 0, length, 1.0), 0.0)
    return gradient + share.reshape(-1, *(1,) * len(dims)) * step
