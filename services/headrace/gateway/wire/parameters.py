"""What an infer body wishes beside its inputs: its parameters, and which outputs in which form."""

from collections.abc import Collection, Mapping, Sequence

import simdjson

from headrace.edge.exchange import MAX_TIMEOUT_S
from headrace.errors import BadRequest
from headrace.gateway.json.document import flag, objects, parameters_of, whole

__all__ = [
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
    """The outputs asked for, in order, those of them that are wanted binary, and those wanted as so many classes.

    Without a list of them, or with an empty one, they are all of those `known`; those among the `texts` have no
    classes. Raises BadRequest.
    """
    wants_binary = flag(
        parameters.get("binary_data_output", False), "parameters.binary_data_output"
    )
    listed = document.get("outputs")
    if listed is None or (isinstance(listed, simdjson.Array | list) and not len(listed)):
        return known, frozenset(known if wants_binary else ()), {}
    names: list[str] = []
    binary: set[str] = set()
    classes: dict[str, int] = {}
    for n, item in enumerate(objects(listed, "outputs")):
        name = item.get("name")
        if not isinstance(name, str) or name not in known:
            raise BadRequest(f"outputs[{n}].name: expected one of {list(known)}")
        if name in names:
            raise BadRequest(f'outputs[{n}].name: output "{name}" is asked for twice')
        names.append(name)
        place = f"outputs[{n}].parameters"
        wishes = parameters_of(item, place)
        check_no_shared_memory(wishes, place)
        if flag(wishes.get("binary_data", False), f"{place}.binary_data"):
            binary.add(name)
        if "classification" in wishes:
            classes[name] = _count_of(wishes["classification"], f"{place}.classification")
            if name in texts:
                raise BadRequest(
                    f'{place}.classification: expected an output of numbers, found "{name}" of BYTES'
                )
    return names, frozenset(binary), classes


def check_reserved(parameters: Mapping[str, object]) -> None:
    """Refuse parameters that would change an answer if they were obeyed, and are not."""
    for name in parameters:
        if name.startswith("triton_"):
            raise BadRequest("parameters: names that begin with triton_ are reserved")
    check_no_shared_memory(parameters, "parameters")


def check_no_shared_memory(parameters: Mapping[str, object], place: str) -> None:
    if any(name in parameters for name in _SHARED_MEMORY):
        raise BadRequest(f"{place}: shared memory is not supported; send the data")


def _count_of(value: object, place: str) -> int:
    count = whole(value, place)
    if count == 0:
        raise BadRequest(f"{place}: expected 1 or more classes")
    return count


def priority_of(value: object) -> int:
    priority = whole(value, "parameters.priority")
    if priority > MAX_PRIORITY:
        raise BadRequest(f"parameters.priority: expected 0 to {MAX_PRIORITY}, 1 being the highest")
    return priority


def timeout_us_of(value: object) -> int:
    timeout_us = whole(value, "parameters.timeout")
    if timeout_us > MAX_TIMEOUT_S * 1e6:
        raise BadRequest(
            f"parameters.timeout: expected at most {MAX_TIMEOUT_S * 1e6:.0f} us, found {timeout_us}"
        )
    return timeout_us
