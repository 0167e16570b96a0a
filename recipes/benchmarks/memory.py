"""Peak memory of the monitor and of the conductance flow, above that of a forward pass of the same batch.

Prints, for 8 sentences of 512 tokens and for one of 1,024 tokens on a model of 12 layers with 12 heads, the peak
resident memory of a process that runs the model, and what measuring the sentences in the same process adds to it.
Each number comes from a process of its own. Takes about 3 minutes on 2 cores.

    python recipes/benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

CASES = ((8, 512), (1, 1024))
KINDS = {
    "forward": "forward pass",
    "attention": "attention flows, logged",
    "conductance": "conductance flow of one sentence",
}


def main() -> None:
    """Print a table, or run one case in this process and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", nargs=3, metavar=("KIND", "SENTENCES", "TOKENS"), help="run one case only")
    parser.add_argument("--hidden-size", type=int, default=768, help="a multiple of 12; default: that of BERT base")
    arguments = parser.parse_args()
    if arguments.case:
        kind, n_sentences, n_tokens = arguments.case
        print(*run(kind, int(n_sentences), int(n_tokens), arguments.hidden_size))
        return
    print(f"12 layers x 12 heads, hidden size {arguments.hidden_size}\n")
    print(f"{'sentences':>9s} {'tokens':>6s}  {'':34s} {'peak':>8s} {'above':>8s} {'CPU':>7s}")
    for n_sentences, n_tokens in CASES:
        base = 0.0
        for kind, label in KINDS.items():
            peak, seconds = measured(kind, n_sentences, n_tokens, arguments.hidden_size)
            base = base or peak
            print(f"{n_sentences:9d} {n_tokens:6d}  {label:34s} {peak:5.0f} MB {peak - base:5.0f} MB {seconds:5.1f} s")


def measured(kind: str, n_sentences: int, n_tokens: int, hidden_size: int) -> tuple[float, float]:
    """Return the peak resident memory in MB and the CPU seconds of a case, run in a new process."""
    command = [
        sys.executable,
        __file__,
        "--hidden-size",
        str(hidden_size),
        "--case",
        kind,
        str(n_sentences),
        str(n_tokens),
    ]
    peak, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(peak), float(seconds)


def run(kind: str, n_sentences: int, n_tokens: int, hidden_size: int) -> tuple[float, float]:
    """Run the model on the sentences, and measure them unless `kind` is "forward"."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from lightning_attnflow import AttentionNetwork, attention_flow
    from lightning_attnflow.callbacks.measure import FlowSettings, measure
    from lightning_attnflow.flow.path_integral import integrate_path

    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = {"hidden_size": hidden_size, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 1000}
    config = BertConfig(**size, intermediate_size=4 * hidden_size, max_position_embeddings=n_tokens)
    model = BertForSequenceClassification(config).eval()
    ids = torch.randint(5, 1000, (n_sentences, n_tokens))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        model(**batch)
    attention_flow(AttentionNetwork(torch.full((3, 80, 80), 1 / 80).double().numpy(), [1.0] + [0.0] * 79))  # compile
    started = time.process_time()
    if kind == "attention":
        settings = FlowSettings("attention", "shapley", "auto", "mean", 0.5, words=False, seed=0)
        first = {name: tensor[:1] for name, tensor in batch.items()}
        others = {name: tensor[1:] for name, tensor in batch.items()}
        found = measure(model, [first], None, settings).sentences
        found += measure(model, [others], None, settings, edges=False).sentences if n_sentences > 1 else []
        assert len(found) == n_sentences
    if kind == "conductance":
        with torch.no_grad():
            embeddings = model.get_input_embeddings()(ids[:1])
        inputs = {"attention_mask": batch["attention_mask"][:1]}
        integrate_path(
            model,
            lambda points: points[:, None, None].float() * embeddings,
            inputs,
            lambda logits: logits.log_softmax(dim=-1)[:, 0],
            tolerance=0.03,
            max_steps=64,
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time() - started


if __name__ == "__main__":
    main()
