"""Trains mail-spam's head: `python -m headrace_models.zoo.train_mail_spam`.

Needs minilm-l6 in the repository.

Nothing here is random: the split is by checksum and the fit, of a convex loss, starts from zeros.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress

from headrace_models.fetch import DEFAULT_CACHE
from headrace_models.preprocess.text import TextPreprocessor
from headrace_models.repository import read_version
from headrace_models.spec import TextSpec
from headrace_models.zoo.mail_spam import HEAD_FILE, MAX_TOKENS
from headrace_models.zoo.mail_text import mail_text, mails
from headrace_models.zoo.minilm import preprocess_document

__all__ = ["fit", "main"]

_BATCH = 32
# The inverse of the weight of the squared coefficients, which pull the fit to zero.
_INVERSE_PENALTY = 10.0
_DIGITS = 7


class Embedder:
    """Texts -> FP32 [texts, 384], by the minilm-l6 in `root`, cut as the served model cuts them."""

    def __init__(self, root: Path) -> None:
        # An extra, which reading the mails does without.
        import onnxruntime

        version = read_version(root / "minilm-l6" / "1")
        self._prepare = TextPreprocessor(
            TextSpec.model_validate(preprocess_document(MAX_TOKENS)), version.folder
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        weights = str(version.path(version.spec.weights["onnx"]))
        self._session = onnxruntime.InferenceSession(
            weights, options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, texts: Sequence[str], advance: Callable[[int], None]
    ) -> npt.NDArray[np.float32]:
        rows = [self._prepare(text.encode()).tensors["input_ids"][0] for text in texts]
        # Rows of like length together: otherwise padding is most of the work.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        result: npt.NDArray[np.float32] = np.zeros((len(rows), 384), np.float32)
        for start in range(0, len(order), _BATCH):
            indices = order[start : start + _BATCH]
            longest = len(rows[indices[-1]])
            ids = np.stack(
                [np.pad(rows[index], (0, longest - len(rows[index]))) for index in indices]
            )
            result[indices] = self._session.run(
                None, {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}
            )[0]
            advance(len(indices))
        return result


def fit(
    embeddings: npt.NDArray[np.float32], is_spam: npt.NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic regression: weight FP64 [384] and bias FP64 [1]."""
    x, y = torch.from_numpy(embeddings).double(), torch.from_numpy(is_spam).double()
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=1000, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(
            x @ weight + bias, y, reduction="sum"
        )
        total = error + weight.square().sum() / (2 * _INVERSE_PENALTY)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it so
    return weight.detach(), bias.detach()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train the head of mail-spam and write it beside its recipe."
    )
    parser.add_argument("--root", type=Path, default=Path("models/repository"))
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    options = parser.parse_args()
    console = Console()
    everything = [
        (mail, text) for mail in mails(options.cache) if (text := mail_text(mail.raw).strip())
    ]
    with Progress(console=console) as progress:
        task = progress.add_task("Embedding mails", total=len(everything))
        embed = Embedder(options.root)
        embeddings = embed(
            [text for _, text in everything], lambda done: progress.advance(task, done)
        )
    is_spam = np.array([mail.is_spam for mail, _ in everything])
    held_out = np.array([mail.is_held_out for mail, _ in everything])
    weight, bias = fit(embeddings[~held_out], is_spam[~held_out])
    right = ((embeddings[held_out] @ weight.numpy() + bias.numpy() > 0) == is_spam[held_out]).sum()
    head = {
        "bias": [round(bias.item(), _DIGITS)],
        "weight": [round(value, _DIGITS) for value in weight.tolist()],
    }
    HEAD_FILE.write_text(json.dumps(head) + "\n", encoding="utf-8")
    console.print(
        f"trained on {(~held_out).sum()} mails; right on {right} of {held_out.sum()} held out"
    )


if __name__ == "__main__":
    main()
