"""The Open Inference Protocol's infer bodies, JSON and binary tensor extension, to tensors and back.

Source: Open Inference Protocol v2 (kserve/open-inference-protocol) and Triton's binary tensor data extension.
Everything is checked against the model's spec here, so that behind this door shapes and datatypes are facts.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec
import orjson

from headrace.edge.exchange import MAX_TIMEOUT_S
from headrace.errors import BadRequest, InferenceFailed
from headrace.gateway.json_document import objects, parameters_of, parse, text, whole
from headrace.gateway.wire_tensor import TensorReader
from headrace.tensor import Answer, Array, Buffer, Tensor, to_array
from headrace_models.spec import InputSpec, ModelSpec

__all__ = ["Codec", "InferBody"]

# Headers that are remembered: how many, and how long one may be.
_MAX_PLANS, _MAX_PLAN_HEADER = 256, 4096


class InferBody(msgspec.Struct, frozen=True):
    """A decoded infer body: `binary` names the outputs wanted as raw bytes; `timeout_us` is 0 when not given."""

    id: str
    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    binary: frozenset[str]
    timeout_us: int
    priority: int


class _Plan(msgspec.Struct, frozen=True):
    """What the JSON header of a wholly binary request says: all but the bytes of its tensors."""

    asked: InferBody
    parts: tuple[tuple[TensorReader, int, int], ...]
    total: int

    def fill(self, tail: memoryview) -> InferBody:
        inputs = [
            reader.from_binary(tail[start:end], tensor.shape, tensor.name)
            for tensor, (reader, start, end) in zip(self.asked.inputs, self.parts, strict=True)
        ]
        return msgspec.structs.replace(self.asked, inputs=inputs)


class Codec:
    """Reads and writes the infer bodies of one model version; what depends on the spec alone is worked out once."""

    def __init__(self, spec: ModelSpec) -> None:
        self._head = {"model_name": spec.name, "model_version": spec.version}
        self._raw = spec.preprocess.input if spec.preprocess else None
        known = {i.name: i for i in spec.inputs}
        if self._raw:
            known[self._raw] = InputSpec(name=self._raw, datatype="BYTES", shape=())
        refuses_non_finite = spec.non_finite == "refuse"
        self._readers = {n: TensorReader(i, refuses_non_finite=refuses_non_finite) for n, i in known.items()}
        optional = {state.input for state in spec.state}
        self._required = [n for n in spec.input_names if n not in optional]
        self._fixed_rows = spec.batching.fixed_rows
        self._outputs = spec.output_names
        self._all_binary = frozenset(spec.output_names)
        self._plans: dict[bytes, _Plan] = {}

    def decode(self, body: bytes, header_length: str | None) -> InferBody:
        """An infer request, `header_length` being its Inference-Header-Content-Length. Raises BadRequest.

        A client's binary requests mostly have the same header again and again, and a header says all but the bytes;
        so what it says is remembered.
        """
        if header_length is None:
            return self._read(body, memoryview(b""))
        split = _split_at(header_length, len(body))
        header, tail = body[:split], memoryview(body)[split:]
        plan = self._plans.get(header)
        if plan is not None and plan.total == len(tail):
            return plan.fill(tail)
        asked = self._read(header, tail)
        if len(header) <= _MAX_PLAN_HEADER and sum(len(t.data) for t in asked.inputs) == len(tail):
            self._remember(header, asked)
        return asked

    def _remember(self, header: bytes, asked: InferBody) -> None:
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        ends = list(accumulate(len(t.data) for t in asked.inputs))
        parts = [(self._readers[t.name], end - len(t.data), end) for t, end in zip(asked.inputs, ends, strict=True)]
        empty = [msgspec.structs.replace(t, data=b"") for t in asked.inputs]
        self._plans[header] = _Plan(msgspec.structs.replace(asked, inputs=empty), tuple(parts), ends[-1])

    def _read(self, header: bytes, tail: memoryview) -> InferBody:
        document = parse(header)
        parameters = parameters_of(document, "parameters")
        inputs = self._read_inputs(document, tail)
        self._check_complete(inputs)
        outputs, binary = self._read_outputs(document, parameters)
        if parameters.get("sequence_id"):
            raise BadRequest("parameters.sequence_id: this server keeps no sequences; send the state as a tensor")
        return InferBody(
            id=text(document.get("id"), "id"),
            inputs=inputs,
            outputs=outputs,
            binary=binary,
            timeout_us=_timeout_us(parameters.get("timeout", 0)),
            priority=whole(parameters.get("priority", 0), "parameters.priority"),
        )

    def encode(self, answer: Answer, asked: InferBody) -> tuple[bytes, int]:
        """The body of an infer response, and the length of its JSON part: 0 when no binary part follows."""
        outputs: list[dict[str, object]] = []
        tail: list[Buffer] = []
        for tensor in answer.outputs:
            output: dict[str, object] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
            if tensor.name in asked.binary:
                output["parameters"] = {"binary_data_size": len(tensor.data)}
                tail.append(tensor.data)
            else:
                output["data"] = _json_data(tensor)
            outputs.append(output)
        document: dict[str, object] = {**self._head, "outputs": outputs}
        if asked.id:
            document["id"] = asked.id
        header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if not any(len(part) for part in tail):
            return header, 0
        return b"".join((header, *tail)), len(header)

    def _read_inputs(self, document: Mapping[str, object], tail: memoryview) -> list[Tensor]:
        tensors: list[Tensor] = []
        place = 0
        for n, item in enumerate(objects(document.get("inputs"), "inputs")):
            name = item.get("name")
            reader = self._readers.get(name) if isinstance(name, str) else None
            if reader is None:
                found = f'"{name[:64]}"' if isinstance(name, str) else "no name"
                raise BadRequest(f"inputs[{n}].name: expected one of {sorted(self._readers)}, found {found}")
            if any(t.name == name for t in tensors):
                raise BadRequest(f'inputs[{n}].name: input "{name}" is given twice')
            tensor, place = reader.read(item, f"inputs[{n}]", tail, place)
            tensors.append(tensor)
        if place != len(tail):
            raise BadRequest(f"body: expected {place} bytes of binary tensors, found {len(tail)}")
        return tensors

    def _check_complete(self, inputs: Sequence[Tensor]) -> None:
        """Every input is there with the same rows: all tensors, or the raw input alone."""
        names = [t.name for t in inputs]
        if self._raw in names:
            if len(names) > 1:
                raise BadRequest(f'inputs: expected "{self._raw}" alone, found {len(names)} inputs')
            return
        for name in self._required:
            if name not in names:
                raise BadRequest(f'inputs: input "{name}" is missing')
        rows = inputs[0].rows
        if len(inputs) > 1 and any(t.rows != rows for t in inputs):
            raise BadRequest(f"inputs: expected the same number of rows in all, found {[t.rows for t in inputs]}")
        if self._fixed_rows and rows != self._fixed_rows:
            raise BadRequest(f"inputs[0].shape: axis 0: expected {self._fixed_rows}, found {rows}")

    def _read_outputs(
        self, document: Mapping[str, object], parameters: Mapping[str, object]
    ) -> tuple[Sequence[str], frozenset[str]]:
        """The outputs asked for, in order, and those of them that are wanted binary."""
        listed = document.get("outputs")
        if listed is None:
            return self._outputs, self._all_binary if parameters.get("binary_data_output") else frozenset()
        names: list[str] = []
        binary: set[str] = set()
        for n, item in enumerate(objects(listed, "outputs")):
            name = item.get("name")
            if not isinstance(name, str) or name not in self._outputs:
                raise BadRequest(f"outputs[{n}].name: expected one of {list(self._outputs)}")
            if name in names:
                raise BadRequest(f'outputs[{n}].name: output "{name}" is asked for twice')
            names.append(name)
            wishes = parameters_of(item, f"outputs[{n}].parameters")
            if wishes.get("classification"):
                raise BadRequest(f"outputs[{n}].parameters.classification: not supported; use :classify")
            if wishes.get("binary_data", False):
                binary.add(name)
        return names, frozenset(binary)


def _timeout_us(value: object) -> int:
    timeout_us = whole(value, "parameters.timeout")
    if timeout_us > MAX_TIMEOUT_S * 1e6:
        raise BadRequest(f"parameters.timeout: expected at most {MAX_TIMEOUT_S * 1e6:.0f} us, found {timeout_us}")
    return timeout_us


def _json_data(tensor: Tensor) -> Array | list[str]:
    array = to_array(tensor)
    if tensor.datatype == "BF16":
        return array.astype("<f4").reshape(-1)  # orjson knows numpy's own types alone
    if tensor.datatype != "BYTES":
        return array.reshape(-1)
    try:
        return [element.decode() for element in array.ravel()]
    except UnicodeDecodeError:
        raise InferenceFailed(f'output "{tensor.name}" is not text: ask for it with binary_data') from None


def _split_at(header_length: str, total: int) -> int:
    """Where the JSON part ends."""
    if not header_length.isascii() or not header_length.isdigit() or not 0 < int(header_length[:12]) <= total:
        raise BadRequest(
            f"Inference-Header-Content-Length: expected 1 to {total}, the length of the JSON part, "
            f'found "{header_length[:20]}"'
        )
    return int(header_length)
