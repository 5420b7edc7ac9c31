"""Reads what an infer body has beside its inputs: parameters, and outputs with their forms."""

from collections.abc import Collection, Mapping, Sequence

import simdjson

from headrace.edge.exchange import MAX_TIMEOUT_S
from headrace.errors import BadRequest
from headrace.gateway.json.document import flag, non_negative, objects, parameters_of

__all__ = [
    "MAX_PRIORITY",
    "check_no_shared_memory",
    "check_reserved",
    "priority_of",
    "read_outputs",
    "timeout_us_of",
]

_SHARED_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
MAX_PRIORITY = 100


def read_outputs(
    document: Mapping[str, object],
    parameters: Mapping[str, object],
    known: Sequence[str],
    texts: Collection[str] = (),
) -> tuple[Sequence[str], frozenset[str], Mapping[str, int]]:
    """The requested outputs in order, those wanted binary, and the numbers of classes wanted.

    All `known` outputs if the document lists none; `texts` are those that have no classes. Raises
    BadRequest.
    """
    all_binary = flag(parameters.get("binary_data_output", False), "parameters.binary_data_output")
    listed = document.get("outputs")
    if listed is None or (isinstance(listed, simdjson.Array | list) and not len(listed)):
        return known, frozenset(known if all_binary else ()), {}
    names: list[str] = []
    binary: set[str] = set()
    classes: dict[str, int] = {}
    for n, item in enumerate(objects(listed, "outputs")):
        name = item.get("name")
        if not isinstance(name, str) or name not in known:
            raise BadRequest(f"outputs[{n}].name: expected one of {list(known)}")
        if name in names:
            raise BadRequest(f'outputs[{n}].name: output "{name}" is requested twice')
        names.append(name)
        where = f"outputs[{n}].parameters"
        options = parameters_of(item, where)
        check_no_shared_memory(options, where)
        if flag(options.get("binary_data", False), f"{where}.binary_data"):
            binary.add(name)
        if "classification" in options:
            classes[name] = _count_of(options["classification"], f"{where}.classification")
            if name in texts:
                raise BadRequest(
                    f"{where}.classification: expected an output of numbers, "
                    f'found "{name}" of BYTES'
                )
    return names, frozenset(binary), classes


def check_reserved(parameters: Mapping[str, object]) -> None:
    """Refuse parameters that are not obeyed here but would change the answer. Raises BadRequest."""
    for name in parameters:
        if name.startswith("triton_"):
            raise BadRequest("parameters: names that begin with triton_ are reserved")
    check_no_shared_memory(parameters, "parameters")


def check_no_shared_memory(parameters: Mapping[str, object], where: str) -> None:
    if any(name in parameters for name in _SHARED_MEMORY):
        raise BadRequest(f"{where}: shared memory is not supported; send the data")


def _count_of(value: object, where: str) -> int:
    count = non_negative(value, where)
    if count == 0:
        raise BadRequest(f"{where}: expected 1 or more classes")
    return count


def priority_of(value: object) -> int:
    priority = non_negative(value, "parameters.priority")
    if priority > MAX_PRIORITY:
        raise BadRequest(f"parameters.priority: expected 0 to {MAX_PRIORITY}, 1 being the highest")
    return priority


def timeout_us_of(value: object) -> int:
    timeout_us = non_negative(value, "parameters.timeout")
    if timeout_us > MAX_TIMEOUT_S * 1e6:
        raise BadRequest(
            f"parameters.timeout: expected at most {MAX_TIMEOUT_S * 1e6:.0f} us, found {timeout_us}"
        )
    return timeout_us
