"""ONNX Runtime: on CUDA if its provider is installed and works, otherwise on the CPU."""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnxruntime as ort

from headrace.backends.contract import Backend
from headrace.backends.lanes import Lanes, lanes_of
from headrace.backends.memory import within_memory
from headrace.backends.onnx_bound import device_runner
from headrace.errors import BadRequest
from headrace.inference.tensor import Array
from headrace_models.errors import BadInput
from headrace_models.onnx_run import Run, runner
from headrace_models.repository import ModelVersion

__all__ = ["OnnxBackend", "load"]

_FATAL_ONLY, _ERRORS_ONLY = 4, 3


def load(version: ModelVersion) -> Backend:
    return OnnxBackend(version)


class _Lane(NamedTuple):
    run: Run
    options: ort.RunOptions


class OnnxBackend:
    """One session.

    `replica.cpus` of the spec is its number of threads; they sleep between batches.
    """

    def __init__(self, version: ModelVersion) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = version.spec.replica.cpus
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Spinning threads win microseconds and burn the cores that gateways and other models need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [p for p in wanted if p in ort.get_available_providers()]
        weights = version.path(version.spec.weights["onnx"])
        session = ort.InferenceSession(weights, options, providers=providers)
        self.device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
        self.lanes = lanes_of(self.device)
        outputs = version.spec.output_names
        self._lanes = Lanes([_lane(session, outputs, self.device) for _ in range(self.lanes)])
        self._running: dict[int, ort.RunOptions] = {}  # by thread

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return within_memory(self._run, inputs)
        except BadInput as error:
            raise BadRequest(str(error)) from None

    def _run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        thread = threading.get_ident()
        with self._lanes.one() as lane:
            lane.options.terminate = False
            self._running[thread] = lane.options
            try:
                return lane.run(inputs, lane.options)
            finally:
                del self._running[thread]

    def stop(self, thread: int) -> None:
        """The runtime checks for this between two nodes of the graph, in the body of a loop too."""
        if options := self._running.get(thread):
            options.terminate = True


def _lane(session: ort.InferenceSession, outputs: Sequence[str], device: str) -> _Lane:
    options = ort.RunOptions()
    # An error of a run is raised, and logged by the caller, who knows its request.
    options.log_severity_level = _FATAL_ONLY
    is_bound = device == "cuda"
    run = device_runner(session, outputs, device) if is_bound else runner(session, outputs)
    return _Lane(run, options)
