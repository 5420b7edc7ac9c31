"""torch: an architecture of the zoo's table, weights from safetensors; on CUDA if available."""

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load_file

from headrace.backends.contract import Backend
from headrace.backends.lanes import Lanes, lanes_of
from headrace.backends.memory import within_memory
from headrace.backends.staging import StagedLane
from headrace.inference.tensor import Array
from headrace_models.repository import ModelVersion
from headrace_models.zoo import architectures

__all__ = ["load"]


def load(version: ModelVersion) -> Backend:
    return TorchBackend(version)


class TorchBackend:
    """One module in inference mode.

    `replica.cpus` of the spec is the number of threads of this process.
    """

    def __init__(self, version: ModelVersion) -> None:
        spec = version.spec
        assert spec.architecture is not None, "the spec checked it"
        torch.set_num_threads(spec.replica.cpus)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.lanes = lanes_of(self.device)
        module = architectures.make(spec.architecture)
        module.load_state_dict(load_file(version.path(spec.weights["torch"])), strict=True)
        self._module = module.eval().to(self.device)
        self._staged = Lanes([StagedLane(self._module, self.device) for _ in range(self.lanes)])
        if self.device == "cuda":
            # The lanes' streams do not wait for the stream that copied the weights.
            torch.cuda.synchronize()
        self._run = self._run_staged if self.device == "cuda" else self._run_here
        self._inputs = spec.input_names
        self._outputs = spec.output_names

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = within_memory(self._run, [inputs[name] for name in self._inputs])
        return dict(zip(self._outputs, outputs, strict=True))

    def _run_staged(self, inputs: Sequence[Array]) -> list[Array]:
        with self._staged.one() as lane:
            return lane.run(inputs)

    def _run_here(self, inputs: Sequence[Array]) -> list[Array]:
        with torch.inference_mode():
            return [output.numpy() for output in self._module(*map(torch.from_numpy, inputs))]
