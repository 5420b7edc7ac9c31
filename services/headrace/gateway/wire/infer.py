"""The Open Inference Protocol's infer bodies, JSON and binary tensor extension, to tensors and back.

Source: Open Inference Protocol v2 (kserve/open-inference-protocol) and Triton's binary tensor data extension.
Everything is checked against the model's spec here, so that behind this endpoint shapes and datatypes are facts.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from headrace.edge.bodies import printable
from headrace.errors import BadRequest
from headrace.gateway.json.document import objects, parameters_of, parse, text
from headrace.gateway.json.elements import named
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

__all__ = ["Codec", "InferBody"]

# Headers that are remembered: how many, and how long one may be.
_MAX_PLANS, _MAX_PLAN_HEADER = 256, 4096
# Checking a byte of a binary number costs this share of reading one of JSON.
_BINARY_SHARE = 64
_MAX_DIGITS = 12


class InferBody(msgspec.Struct, frozen=True):
    """A decoded infer body: `binary` names the outputs wanted as raw bytes, `classes` those wanted as so many classes.

    `timeout_us` is 0 when not given.
    """

    id: str
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()
    binary: frozenset[str] = frozenset()
    classes: Mapping[str, int] = {}
    timeout_us: int = 0
    priority: int = 0
    sequence: SequenceStep | None = None


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

    def __init__(self, spec: ModelSpec, labels: Sequence[str] = ()) -> None:
        self._labels = {spec.classes.name: labels} if spec.classes else {}
        self._head: dict[str, object] = {"model_name": spec.name, "model_version": spec.version}
        self._raw = spec.raw.input if spec.raw else None
        known = {i.name: i for i in spec.inputs}
        if self._raw:
            known[self._raw] = InputSpec(name=self._raw, datatype="BYTES", shape=())
        self._is_batched = spec.is_batched
        self._readers = {
            n: TensorReader(i, is_finite=spec.finite, may_be_empty=spec.is_batched)
            for n, i in known.items()
        }
        self._states = frozenset(state.input for state in spec.state)
        self._required = [n for n in spec.input_names if n not in self._states]
        tokens = spec.raw.tokens if spec.raw else None
        self._paired = (tokens.ids, tokens.mask) if tokens else ()
        self._without_rows = frozenset(o.name for o in spec.outputs if not o.has_rows)
        self._outputs = spec.output_names
        self._all_binary = frozenset(spec.output_names)
        self._texts = frozenset(o.name for o in spec.outputs if o.datatype == "BYTES")
        self._has_texts = any(reader.is_text for reader in self._readers.values())
        self._plans: dict[bytes, _Plan] = {}

    def decode(self, body: bytes, header_length: str | None) -> InferBody:
        """An infer request, `header_length` being its Inference-Header-Content-Length. Raises BadRequest.

        A client's binary requests mostly have the same header again and again, and a header says all but the bytes;
        so what it says is remembered.
        """
        if header_length is None:
            return self._read(body, memoryview(b""))
        if header_length == "0":
            return self._read_raw(body)
        split = _split_at(header_length, len(body))
        header, tail = body[:split], memoryview(body)[split:]
        plan = self._plans.get(header)
        if plan is not None and plan.total == len(tail):
            return plan.fill(tail)
        asked = self._read(header, tail)
        if len(header) <= _MAX_PLAN_HEADER and sum(len(t.data) for t in asked.inputs) == len(tail):
            self._remember(header, asked)
        return asked

    def reading_cost(self, body: bytes, header_length: str | None) -> int:
        """About how many bytes `decode` looks at one by one: all of JSON and of texts, little of binary numbers."""
        if header_length is None or not header_length.isdigit():
            return len(body)
        json_bytes = min(int(header_length[:12]), len(body))
        tail = len(body) - json_bytes
        return json_bytes + (tail if self._has_texts else tail // _BINARY_SHARE)

    def _read_raw(self, body: bytes) -> InferBody:
        """A body that is the bytes of the model's one input, one row if it has rows; all outputs are wanted binary."""
        names = [self._raw] if self._raw else self._required
        if len(names) != 1:
            raise BadRequest(
                f"Inference-Header-Content-Length: expected a JSON part, as the model has {len(names)} inputs"
            )
        tensor = self._readers[names[0]].from_raw(body)
        return InferBody("", [tensor], self._outputs, self._all_binary, {}, 0, 0)

    def _remember(self, header: bytes, asked: InferBody) -> None:
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        ends = list(accumulate(len(t.data) for t in asked.inputs))
        parts = [
            (self._readers[t.name], end - len(t.data), end)
            for t, end in zip(asked.inputs, ends, strict=True)
        ]
        empty = [msgspec.structs.replace(t, data=b"") for t in asked.inputs]
        self._plans[header] = _Plan(
            msgspec.structs.replace(asked, inputs=empty), tuple(parts), ends[-1]
        )

    def _read(self, header: bytes, tail: memoryview) -> InferBody:
        return self.read(parse(header), tail)

    def read(self, document: Mapping[str, object], tail: memoryview) -> InferBody:
        """A parsed infer body with the bytes behind it. Raises BadRequest."""
        parameters = parameters_of(document, "parameters")
        check_reserved(parameters)
        given_id = text(document.get("id"), "id")
        inputs = self._read_inputs(document, tail)
        self._check_complete(inputs)
        step = step_of(parameters)
        if step is not None:
            check_step(
                inputs, self._states, of_one_row=self._is_batched or inputs[0].name == self._raw
            )
        outputs, binary, classes = read_outputs(document, parameters, self._outputs, self._texts)
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
        """Hold tensors that an endpoint made itself to what an infer body is held to. Raises BadRequest naming `where`."""
        for tensor in tensors:
            if tensor.name != self._raw:
                self._readers[tensor.name].check(tensor, where)

    def writing_cost(self, answer: Answer, asked: InferBody) -> int:
        """About how many bytes `encode` looks at one by one."""
        return sum(
            [
                len(t.data)
                for t in answer.outputs
                if t.name not in asked.binary or t.name in asked.classes
            ]
        )

    def encode(self, answer: Answer, asked: InferBody) -> tuple[bytes, int]:
        """The body of an infer response, and the length of its JSON part: 0 when no binary part follows."""
        head = {**self._head, "id": asked.id} if asked.id else self._head
        if answer.truncated:  # a parameter is no list
            head = {**head, "parameters": {"truncated": ",".join(map(str, answer.truncated))}}
        return encode(answer, head, asked.binary, asked.classes, self._labels, self._without_rows)

    def _read_inputs(self, document: Mapping[str, object], tail: memoryview) -> list[Tensor]:
        tensors: list[Tensor] = []
        place = 0
        for n, item in enumerate(objects(document.get("inputs"), "inputs")):
            name = item.get("name")
            reader = self._readers.get(name) if isinstance(name, str) else None
            if reader is None:
                raise BadRequest(
                    f"inputs[{n}].name: expected one of {sorted(self._readers)}, found {named(name)}"
                )
            if any(t.name == name for t in tensors):
                raise BadRequest(f'inputs[{n}].name: input "{name}" is given twice')
            tensor, place = reader.read(item, f"inputs[{n}]", tail, place)
            tensors.append(tensor)
        if place != len(tail):
            raise BadRequest(f"body: expected {place} bytes of binary tensors, found {len(tail)}")
        return tensors

    def _check_complete(self, inputs: Sequence[Tensor]) -> None:
        """Every input is there: all tensors, with the same rows if rows are batched, or the raw input alone."""
        names = [t.name for t in inputs]
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


def _split_at(header_length: str, total: int) -> int:
    """Where the JSON part ends."""
    is_number = (
        len(header_length) <= _MAX_DIGITS and header_length.isascii() and header_length.isdigit()
    )
    if not is_number or not 0 < int(header_length) <= total:
        raise BadRequest(
            f"Inference-Header-Content-Length: expected 1 to {total}, the length of the JSON part, "
            f"found {printable(header_length[:20])}"
        )
    return int(header_length)
