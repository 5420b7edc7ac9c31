"""torch: an architecture from the zoo's fixed table with weights from safetensors; CUDA where it is there."""

from collections.abc import Mapping

import torch
from safetensors.torch import load_file

from headrace.tensor import Array
from headrace_models.repository import ModelVersion
from headrace_models.zoo import architectures

__all__ = ["TorchBackend"]


class TorchBackend:
    """One module in inference mode. `replica.cpus` of the spec is the number of threads of this process."""

    def __init__(self, version: ModelVersion) -> None:
        spec = version.spec
        assert spec.architecture is not None, "the spec checked it"
        torch.set_num_threads(spec.replica.cpus)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        module = architectures.make(spec.architecture)
        module.load_state_dict(load_file(version.path(spec.weights["torch"])), strict=True)
        self._module = module.eval().to(self.device)
        self._inputs = spec.input_names
        self._outputs = spec.output_names

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with torch.inference_mode():
            tensors = [torch.from_numpy(inputs[name]).to(self.device) for name in self._inputs]
            outputs = self._module(*tensors)
            return {name: t.cpu().numpy() for name, t in zip(self._outputs, outputs, strict=True)}
