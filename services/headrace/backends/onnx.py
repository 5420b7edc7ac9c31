"""ONNX Runtime: CUDA where its provider is there, else the CPU."""

import threading
from collections.abc import Mapping
from typing import NamedTuple

import onnxruntime as ort

from headrace.backends.lanes import Lanes, lanes_of
from headrace.backends.memory import within_memory
from headrace.errors import BadRequest
from headrace.inference.tensor import Array
from headrace_models.errors import BadInput
from headrace_models.onnx_run import Run, runner
from headrace_models.repository import ModelVersion

__all__ = ["OnnxBackend"]

_FATAL_ONLY, _ERRORS_ONLY = 4, 3


class _Lane(NamedTuple):
    run: Run
    options: ort.RunOptions


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
        self._session = ort.InferenceSession(
            version.path(version.spec.weights["onnx"]), options, providers=providers
        )
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        self.lanes = lanes_of(self.device)
        bound_to = self.device if self.device == "cuda" else None
        names = version.spec.output_names
        self._lanes = Lanes(
            [_Lane(runner(self._session, names, bound_to), _options()) for _ in range(self.lanes)]
        )
        self._running: dict[int, ort.RunOptions] = {}  # by thread

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return within_memory(self._run, inputs)
        except BadInput as error:
            raise BadRequest(str(error)) from None

    def _run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with self._lanes.one() as lane:
            lane.options.terminate = False
            self._running[thread := threading.get_ident()] = lane.options
            try:
                return lane.run(inputs, lane.options)
            finally:
                del self._running[thread]

    def stop(self, thread: int) -> None:
        """The runtime looks for it between two nodes of the graph, in the body of a loop too."""
        if options := self._running.get(thread):
            options.terminate = True


def _options() -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = (
        _FATAL_ONLY  # what a run fails with is raised, and logged by whoever knows its request
    )
    return options
