"""ONNX Runtime: CUDA where its provider is there, else the CPU."""

from collections.abc import Mapping

import onnxruntime as ort

from headrace.backends.lanes import Lanes, lanes_of
from headrace.backends.memory import within_memory
from headrace.errors import BadRequest
from headrace.tensor import Array
from headrace_models.errors import BadInput
from headrace_models.onnx_run import runner
from headrace_models.repository import ModelVersion

__all__ = ["OnnxBackend"]

_ERRORS_ONLY = 3


class OnnxBackend:
    """One session. `replica.cpus` of the spec is its number of threads; they sleep between batches."""

    def __init__(self, version: ModelVersion) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = version.spec.replica.cpus
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Spinning threads win microseconds and burn the cores that gateways and other models need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [p for p in wanted if p in ort.get_available_providers()]
        self._session = ort.InferenceSession(version.path(version.spec.weights["onnx"]), options, providers=providers)
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        self.lanes = lanes_of(self.device)
        bound_to = self.device if self.device == "cuda" else None
        names = version.spec.output_names
        self._runs = Lanes([runner(self._session, names, bound_to) for _ in range(self.lanes)])

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return within_memory(self._run, inputs)
        except BadInput as error:
            raise BadRequest(str(error)) from None

    def _run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with self._runs.one() as run:
            return run(inputs)
