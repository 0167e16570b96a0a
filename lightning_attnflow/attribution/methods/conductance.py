"""The conductance flow into the positions of one layer as an explanation method."""

from __future__ import annotations

from lightning_attnflow.attribution.baseline import MaskingArgument
from lightning_attnflow.attribution.conductance import conductance_flow
from lightning_attnflow.attribution.methods import register_method
from lightning_attnflow.attribution.payoffs import Payoff
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.attribution.token_targets import Target, TargetArgument


@register_method("conductance", family="gradient")
def conductance(
    sentence: Sentence,
    *,
    layer: int = 0,
    payoff: str | Payoff = "log_probability",
    target: TargetArgument | None = None,
    masking: MaskingArgument | None = None,
    tolerance: float = 0.01,
    max_steps: int | None = None,
    path: str | None = None,
) -> TokenAttribution:
    """Flow of the prediction through one layer; the values sum to v(N) - v(empty) of the token game at every layer."""
    flow = conductance_flow(
        sentence.reader,
        sentence.tokenizer,
        sentence.encoded,
        target=target,
        payoff=payoff,
        baseline=masking,
        tolerance=tolerance,
        max_steps=max_steps,
        path=path,
        seed=sentence.seed,
        edges=False,
    )
    wanted = Target.of(target, sentence.tokenizer, sentence.reader, sentence.encoded)
    return sentence.of_encoded(wanted.extended(sentence.encoded)).by_position(
        flow.layer(layer),
        "conductance",
        "present" if layer == 0 else "players",  # special tokens have the value 0 at layer 0 only
        layer=layer,
        payoff=flow.payoff,
        target=flow.target,
        target_name=flow.target_name,
        masking=flow.masking,
        v_empty=flow.v_empty,
        v_full=flow.v_empty + flow.total,
        details={"steps": float(flow.n_steps), "conservation_error": float(flow.conservation_error[layer])},
    )
