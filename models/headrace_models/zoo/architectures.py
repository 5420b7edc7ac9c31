"""The torch networks by name. A `model.toml` can only choose from these: weights bring no code."""

import torch

from headrace_models.errors import ModelError
from headrace_models.zoo.dga_lstm import DgaLstm
from headrace_models.zoo.efficientnet_lite0 import EfficientNetLite0
from headrace_models.zoo.mail_spam import MailSpam
from headrace_models.zoo.minilm import MiniLm

__all__ = ["make"]

_NETWORKS: dict[str, type[torch.nn.Module]] = {
    "dga-lstm": DgaLstm,
    "efficientnet-lite0": EfficientNetLite0,
    "mail-spam": MailSpam,
    "minilm-l6": MiniLm,
}


def make(name: str) -> torch.nn.Module:
    """A network in evaluation mode, its weights not yet loaded.

    It takes the spec's inputs in order and returns a tuple of the spec's outputs in order.
    Raises ModelError if there is no network of this name.
    """
    if name not in _NETWORKS:
        raise ModelError(
            f'architecture: expected one of {", ".join(sorted(_NETWORKS))}, found "{name}"'
        )
    return _NETWORKS[name]().eval()
