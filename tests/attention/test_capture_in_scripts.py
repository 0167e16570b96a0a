"""Models that users define in a script of their own, run as a script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
import torch
from torch import nn
from transformers import BertModel

class GatedAttention(nn.Module):  # which makes transformers refuse to switch the models of this file to eager
    def __init__(self, width):
        super().__init__()
        self.gate = torch.nn.Linear(width, width)

    def forward(self, states):
        scores = torch.matmul(states, self.gate(states).transpose(1, 2))
        return torch.matmul(torch.nn.functional.softmax(scores, dim=-1), states)

class Encoder(BertModel):
    def __init__(self, config):
        super().__init__(config)
        self.top = GatedAttention(config.hidden_size)

    def forward(self, *inputs, **options):
        output = super().forward(*inputs, **options)
        output.last_hidden_state = output.last_hidden_state + self.top(output.last_hidden_state)
        return output
"""

SCRIPT = """
import lightning.pytorch as pl
import models
import torch
from own_model import Encoder
from torch import nn
from transformers import BertForSequenceClassification

from lightning_attnflow import AttentionFlowMonitor, capture_attention, explain

class Classifier(BertForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        self.bert = Encoder(config)

class OwnAttention(nn.Module):
    pass

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Classifier(models.bert_classifier().config)

    def validation_step(self, batch, index):
        self.net(**batch)

if __name__ == "__main__":
    torch.manual_seed(0)
    module, batch = Module().eval(), models.padded_batch()
    model = module.net
    assert type(model).__module__ == "__main__" and not model._can_set_attn_implementation()
    captured = capture_attention(model, batch)
    assert model.config._attn_implementation == "sdpa"
    twin = Classifier._from_config(model.config, attn_implementation="eager").eval()
    twin.load_state_dict(model.state_dict())
    real = batch["attention_mask"].bool()
    for mine, theirs in zip(captured, twin(**batch, output_attentions=True).attentions, strict=True):
        torch.testing.assert_close(mine.transpose(1, 2)[real], theirs.detach().transpose(1, 2)[real])
    tokenizer, text = models.tokenizer(), "this movie was great"
    found = explain(model, tokenizer, text, method="attention_last")
    inputs = tokenizer(text, return_tensors="pt")
    last = twin(**inputs, output_attentions=True).attentions[-1][0].mean(0).detach()
    monitor = AttentionFlowMonitor(tokenizer, probes=[text], max_sentences=1, method="rollout", on_error="raise")
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    loader = torch.utils.data.DataLoader([{k: v[0] for k, v in batch.items()}], batch_size=1)
    pl.Trainer(**options, enable_checkpointing=False).validate(module, loader, verbose=False)
    pl.Trainer(**options, enable_checkpointing=False, callbacks=[monitor]).validate(module, loader, verbose=False)
    assert monitor.latest[0].attention is not None and monitor.latest[0].conductance is not None
    assert monitor.latest[0].conductance.edges.shape[0] == 3
    torch.testing.assert_close(torch.tensor(found.values), last[0].double(), rtol=1e-4, atol=1e-6)
    print("captured", len(captured))
"""


def test_subclasses_in_a_script_and_in_a_file_with_its_own_attention_are_captured(tmp_path: Path) -> None:
    (tmp_path / "own_model.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(SCRIPT)
    own = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-W", "error::UserWarning:lightning_attnflow", str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "captured 3"
