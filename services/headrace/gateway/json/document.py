"""Reads JSON: one strict parse of a body, whose arrays stay unread, and the small values in it."""

import json
import re
from collections.abc import Mapping, Sequence

import simdjson

from headrace.edge.bodies import printable
from headrace.errors import BadJson, BadRequest
from headrace.gateway.json.elements import kind_of
from headrace.gateway.json.long_arrays import lift, put_back, read_float
from headrace.gateway.json.scan import MAX_DEPTH, arrays_in, scan

__all__ = [
    "LARGE_BYTES",
    "flag",
    "mapping_of",
    "non_negative",
    "objects",
    "parameters_of",
    "parse",
    "text",
]

# A larger body is scanned before it is parsed, and its long arrays of numbers are read in pieces.
LARGE_BYTES = 64 << 10
# Limits of a large body beside arrays of numbers.
MAX_TEXT_BYTES = 8 << 20
MAX_TEXTS = 100_000
MAX_TENSORS = 64
MAX_KEYS_OF_EACH = 1000
# A text that simdjson refuses is read again by the slow parser up to this size.
MAX_LENIENT_BYTES = 1 << 20
MAX_PARAMETERS = 64
MAX_ID = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BOM = b"\xef\xbb\xbf"


def parse(body: bytes | memoryview) -> Mapping[str, object]:
    """The document, whose arrays stay unread. Raises BadJson unless it is one JSON object.

    A body beyond LARGE_BYTES takes long: read it in another thread than the event loop's.
    """
    body = bytes(body)
    document: object
    if len(body) > LARGE_BYTES:
        document = _parse_large(body)
    else:
        if arrays_in(body) > MAX_DEPTH:
            scan(body)
        document = _parse(body)
    if not isinstance(document, simdjson.Object | dict):
        raise BadJson(f"body: expected a JSON object, found {kind_of(document)}")
    return mapping_of(document, "body")


def _parse(body: bytes) -> object:
    if body.startswith(_BOM):
        raise BadJson("body: expected JSON in UTF-8 without a byte order mark")
    try:
        # A parser each: it is blocked while anything, such as a traceback, holds its last document.
        return simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return _lenient(body)


def _parse_large(body: bytes) -> object:
    skeleton, long_arrays = lift(body, scan(body))
    if _text_bytes(skeleton) > MAX_TEXT_BYTES or skeleton.count(b",") > MAX_TEXTS:
        raise BadJson(
            f"body: expected at most {MAX_TEXT_BYTES} bytes and {MAX_TEXTS} elements "
            "beside arrays of numbers; send tensors as binary"
        )
    document = _parse(skeleton)
    if isinstance(document, simdjson.Object):
        _check_all_keys(document)
        document = document.as_dict()
    return put_back(document, long_arrays)


def _text_bytes(skeleton: bytes) -> int:
    """The length, without spaces if it is beyond the limit: the parser skips them."""
    return len(skeleton.translate(None, b" \t\r\n") if len(skeleton) > MAX_TEXT_BYTES else skeleton)


def mapping_of(item: Mapping[str, object], where: str) -> dict[str, object]:
    """An object as a dict, its arrays still unread: simdjson's takes 2 us to find a key missing.

    Raises BadJson for a repeated key, whose value would be ambiguous, or for too many keys.
    """
    if len(item) > MAX_KEYS_OF_EACH:
        raise BadJson(f"{where}: expected at most {MAX_KEYS_OF_EACH} keys, found {len(item)}")
    mapping: dict[str, object] = {}
    for key in item:
        if key in mapping:
            raise BadJson(f"{where}: duplicate key {printable(key)}")
        if "\0" in key:
            # simdjson would look up the part before it.
            raise BadJson(f"{where}: a key has a NUL in it")
        mapping[key] = item[key]
    return mapping


def _check_all_keys(document: "simdjson.Object") -> None:
    found: list[object] = [document]
    while found:
        item = found.pop()
        if isinstance(item, simdjson.Object):
            found += mapping_of(item, "body").values()
        elif isinstance(item, simdjson.Array):
            found += item


def _lenient(body: bytes) -> object:
    """Read what simdjson refuses: NaN and Infinity as bare tokens, integers beyond 64 bits."""
    if len(body) > MAX_LENIENT_BYTES:
        raise BadJson(
            "body: expected JSON, found something else; with NaN or Infinity in it "
            f"it may have {MAX_LENIENT_BYTES} bytes beside long arrays of numbers"
        )
    try:
        document: object = json.loads(
            body.decode(), object_pairs_hook=_unique, parse_float=read_float
        )
        json.dumps(document, ensure_ascii=False).encode()  # fails on half a character
        return document
    except (ValueError, RecursionError) as error:
        offset = f" (byte {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadJson(f"body: expected JSON, found something else{offset}") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise BadJson("body: duplicate key in an object")
    return document


def objects(value: object, where: str) -> Sequence[Mapping[str, object]]:
    """A non-empty array of objects."""
    items = list(value) if isinstance(value, (simdjson.Array, list)) else []
    if not items or not all(isinstance(item, (simdjson.Object, dict)) for item in items):
        raise BadRequest(f"{where}: expected a non-empty array of objects")
    if len(items) > MAX_TENSORS:
        raise BadRequest(f"{where}: expected at most {MAX_TENSORS}, found {len(items)}")
    return [mapping_of(item, f"{where}[{n}]") for n, item in enumerate(items)]


def parameters_of(item: Mapping[str, object], where: str) -> Mapping[str, object]:
    """An item's `parameters` without nulls, which many clients send. Raises BadRequest."""
    value = item.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, simdjson.Object | dict):
        raise BadRequest(f"{where}: expected an object, found {kind_of(value)}")
    if len(value) > MAX_PARAMETERS:
        raise BadRequest(
            f"{where}: expected at most {MAX_PARAMETERS} parameters, found {len(value)}"
        )
    parameters = mapping_of(value, where)
    for name, parameter in parameters.items():
        if not isinstance(parameter, str | int | float | bool | None):
            raise BadRequest(
                f"{where}: {printable(name)}: expected a string, number or boolean, "
                f"found {kind_of(parameter)}"
            )
    return {name: parameter for name, parameter in parameters.items() if parameter is not None}


def flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{where}: expected true or false, found {kind_of(value)}")
    return value


def non_negative(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise BadRequest(f"{where}: expected an integer of 0 or more")
    return value


def text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID or _CONTROL.search(value):
        raise BadRequest(
            f"{where}: expected a string of at most {MAX_ID} characters, "
            "no control characters among them"
        )
    return value
