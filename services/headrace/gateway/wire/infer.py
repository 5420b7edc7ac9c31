"""Reads and writes the Open Inference Protocol's infer bodies, JSON and with binary tensors.

Source: Open Inference Protocol v2 (kserve/open-inference-protocol) and Triton's binary tensor data
extension. All is checked against the model's spec here, so that shapes and datatypes are facts to
the rest of the system.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from headrace.edge.bodies import printable
from headrace.errors import BadRequest
from headrace.gateway.json.document import objects, parameters_of, parse, text
from headrace.gateway.json.elements import printable_name
from headrace.gateway.wire.answer import encode
from headrace.gateway.wire.input_tensor import TensorReader
from headrace.gateway.wire.parameters import (
    check_reserved,
    priority_of,
    read_outputs,
    timeout_us_of,
)
from headrace.gateway.wire.sequence import check_step, step_of
from headrace.inference.request import Answer, SequenceStep
from headrace.inference.tensor import Tensor
from headrace_models.spec import InputSpec, ModelSpec

__all__ = ["Codec", "InferBody", "header_bytes"]

_NO_TAIL = memoryview(b"")
_MAX_PLANS = 256
_MAX_PLAN_HEADER_BYTES = 4096
# Checking a byte of a binary number costs this share of reading one of JSON.
_BINARY_SHARE = 64
_MAX_DIGITS = 12


class InferBody(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded infer body: `binary` names the outputs wanted as raw bytes.

    `classes` says how many best classes are wanted of an output. `timeout_us` is 0 when not given.
    """

    id: str = ""
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()
    binary: frozenset[str] = frozenset()
    classes: Mapping[str, int] = {}
    timeout_us: int = 0
    priority: int = 0
    sequence: SequenceStep | None = None


class _Plan(msgspec.Struct, frozen=True):
    """All that the JSON header of a binary request says, and where its `total` bytes belong."""

    body: InferBody
    parts: tuple[tuple[TensorReader, int, int], ...]
    total: int

    def fill(self, tail: memoryview) -> InferBody:
        inputs = [
            reader.from_binary(tail[start:end], tensor.shape, tensor.name)
            for tensor, (reader, start, end) in zip(self.body.inputs, self.parts, strict=True)
        ]
        return msgspec.structs.replace(self.body, inputs=inputs)


class Codec:
    """Reads and writes the infer bodies of one model version."""

    def __init__(self, spec: ModelSpec, labels: Sequence[str] = ()) -> None:
        self._raw = spec.raw.input if spec.raw else None
        known = {i.name: i for i in spec.inputs}
        if self._raw:
            known[self._raw] = InputSpec(name=self._raw, datatype="BYTES", shape=())
        self._readers = {
            name: TensorReader(i, is_finite=spec.finite, may_be_empty=spec.is_batched)
            for name, i in known.items()
        }
        self._has_texts = any(reader.is_text for reader in self._readers.values())
        self._is_batched = spec.is_batched
        self._states = frozenset(state.input for state in spec.state)
        self._required = [name for name in spec.input_names if name not in self._states]
        tokens = spec.raw.tokens if spec.raw else None
        self._paired = (tokens.ids, tokens.mask) if tokens else ()
        self._plans: dict[bytes, _Plan] = {}

        self._head: dict[str, object] = {"model_name": spec.name, "model_version": spec.version}
        self._labels = {spec.classes.name: labels} if spec.classes else {}
        self._outputs = spec.output_names
        self._all_binary = frozenset(spec.output_names)
        self._output_texts = frozenset(o.name for o in spec.outputs if o.datatype == "BYTES")
        self._without_rows = frozenset(o.name for o in spec.outputs if not o.has_rows)

    def decode(self, body: bytes, header_length: str | None) -> InferBody:
        """Read a body whose Inference-Header-Content-Length is `header_length`. Raises BadRequest.

        The binary requests of a client mostly have equal headers, so the last ones are remembered.
        """
        if header_length is None:
            return self.read(parse(body), _NO_TAIL)
        if header_length == "0":
            return self._read_raw(body)
        split = header_bytes(header_length, len(body))
        header = body[:split]
        tail = memoryview(body)[split:]
        plan = self._plans.get(header)
        if plan is not None and plan.total == len(tail):
            return plan.fill(tail)
        infer_body = self.read(parse(header), tail)
        self._remember(header, infer_body, len(tail))
        return infer_body

    def read(self, document: Mapping[str, object], tail: memoryview) -> InferBody:
        """Read a parsed body with the bytes behind it. Raises BadRequest."""
        parameters = parameters_of(document, "parameters")
        check_reserved(parameters)
        given_id = text(document.get("id"), "id")
        inputs = self._read_inputs(document, tail)
        self._check_complete(inputs)
        step = step_of(parameters)
        if step is not None:
            of_one_row = self._is_batched or inputs[0].name == self._raw
            check_step(inputs, self._states, of_one_row=of_one_row)
        outputs, binary, classes = read_outputs(
            document, parameters, self._outputs, self._output_texts
        )
        return InferBody(
            id=given_id,
            inputs=inputs,
            outputs=outputs,
            binary=binary,
            classes=classes,
            timeout_us=timeout_us_of(parameters.get("timeout", 0)),
            priority=priority_of(parameters.get("priority", 0)),
            sequence=step,
        )

    def check(self, tensors: Sequence[Tensor], where: str) -> None:
        """Check tensors that an endpoint made itself. Raises BadRequest naming `where`."""
        for tensor in tensors:
            if tensor.name != self._raw:
                self._readers[tensor.name].check(tensor, where)

    def encode(self, answer: Answer, body: InferBody) -> tuple[bytes, int]:
        """The answer to `body`, and the length of its JSON part: 0 if no binary part follows."""
        head = {**self._head, "id": body.id} if body.id else self._head
        if answer.truncated:  # a string, as the value of a parameter cannot be a list
            head = {**head, "parameters": {"truncated": ",".join(map(str, answer.truncated))}}
        return encode(answer, head, body.binary, body.classes, self._labels, self._without_rows)

    def reading_cost(self, body: bytes, header_length: str | None) -> int:
        """About how many bytes `decode` reads one by one: JSON and texts, few of binary numbers."""
        if header_length is None or not header_length.isdigit():
            return len(body)
        json_bytes = min(int(header_length[:_MAX_DIGITS]), len(body))
        tail = len(body) - json_bytes
        return json_bytes + (tail if self._has_texts else tail // _BINARY_SHARE)

    def writing_cost(self, answer: Answer, body: InferBody) -> int:
        """About how many bytes `encode` writes one by one."""
        return sum(
            [
                len(tensor.data)
                for tensor in answer.outputs
                if tensor.name not in body.binary or tensor.name in body.classes
            ]
        )

    def _read_raw(self, body: bytes) -> InferBody:
        """Read the bytes of the model's one input: one row, answered with binary outputs."""
        names = [self._raw] if self._raw else self._required
        if len(names) != 1:
            raise BadRequest(
                "Inference-Header-Content-Length: expected a JSON part, "
                f"as the model has {len(names)} inputs"
            )
        tensor = self._readers[names[0]].from_raw(body)
        return InferBody(inputs=[tensor], outputs=self._outputs, binary=self._all_binary)

    def _remember(self, header: bytes, body: InferBody, tail_bytes: int) -> None:
        """Remember the header of a body whose inputs are all binary."""
        ends = list(accumulate(len(tensor.data) for tensor in body.inputs))
        if len(header) > _MAX_PLAN_HEADER_BYTES or ends[-1] != tail_bytes:
            return
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        parts = tuple(
            (self._readers[tensor.name], end - len(tensor.data), end)
            for tensor, end in zip(body.inputs, ends, strict=True)
        )
        empty = [msgspec.structs.replace(tensor, data=b"") for tensor in body.inputs]
        self._plans[header] = _Plan(
            body=msgspec.structs.replace(body, inputs=empty), parts=parts, total=tail_bytes
        )

    def _read_inputs(self, document: Mapping[str, object], tail: memoryview) -> list[Tensor]:
        tensors: list[Tensor] = []
        offset = 0
        for n, item in enumerate(objects(document.get("inputs"), "inputs")):
            name = item.get("name")
            reader = self._readers.get(name) if isinstance(name, str) else None
            if reader is None:
                raise BadRequest(
                    f"inputs[{n}].name: expected one of {sorted(self._readers)}, "
                    f"found {printable_name(name)}"
                )
            if any(tensor.name == name for tensor in tensors):
                raise BadRequest(f'inputs[{n}].name: input "{name}" is given twice')
            tensor, offset = reader.read(item, f"inputs[{n}]", tail, offset)
            tensors.append(tensor)
        if offset != len(tail):
            raise BadRequest(f"body: expected {offset} bytes of binary tensors, found {len(tail)}")
        return tensors

    def _check_complete(self, inputs: Sequence[Tensor]) -> None:
        """Refuse inputs unless all are there, with equal rows if batched, or the raw one alone."""
        names = [tensor.name for tensor in inputs]
        if self._raw in names:
            if len(names) > 1:
                raise BadRequest(f'inputs: expected "{self._raw}" alone, found {len(names)} inputs')
            return
        for name in self._required:
            if name not in names:
                raise BadRequest(f'inputs: input "{name}" is missing')
        if self._paired and len({t.shape for t in inputs if t.name in self._paired}) > 1:
            raise BadRequest(f"inputs: expected the same shape for {' and '.join(self._paired)}")
        if self._is_batched and len(inputs) > 1 and any(t.rows != inputs[0].rows for t in inputs):
            raise BadRequest(
                f"inputs: expected the same number of rows in all, found {[t.rows for t in inputs]}"
            )


def header_bytes(header_length: str, total: int) -> int:
    """The length of the JSON part of a body of `total` bytes. Raises BadRequest."""
    is_number = (
        len(header_length) <= _MAX_DIGITS and header_length.isascii() and header_length.isdigit()
    )
    if not is_number or not 0 < int(header_length) <= total:
        raise BadRequest(
            f"Inference-Header-Content-Length: expected 1 to {total}, the length of the JSON part, "
            f"found {printable(header_length[:20])}"
        )
    return int(header_length)
