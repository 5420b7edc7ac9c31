"""The catalogue in the YAML files beside this one: requests and their expected answers."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from loadtests.support.bad_inputs.builders import Node

__all__ = ["CASES", "NO_ANSWER", "Case"]

NO_ANSWER = 0
Connection = Literal["open", "close", "either"]
Then = Literal["listen", "half_close", "reset", "drip"]
Server = Literal["platform", "admin", "typed", "lone_gateway", "keys", "impatient"]


@dataclass(frozen=True)
class Case:
    """One bad request, or a good one just inside a limit.

    `status` holds all that are right; NO_ANSWER is an end of the connection without one. `code`
    holds the codes that an error may have. `then` says what follows the last byte: to listen, to
    close this half, or to reset; `drip` sends byte by byte. `interim` says whether "100 Continue"
    must come first, if that matters. `at` is the server: the zoo's data or admin port, models of
    every datatype, a gateway before the doubler alone, one with keys, or one of little patience.
    """

    id: str
    send: Node
    status: tuple[int, ...]
    code: tuple[str, ...] = ()
    connection: Connection = "either"
    then: Then = "listen"
    interim: bool | None = None
    at: Server = "platform"
    slow_receipt: bool = False
    why: str = ""


def _read(path: Path) -> list[Case]:
    """The cases of a file. `defaults` fill in fields that a case or its `send` lacks."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [_case(document.get("defaults", {}), item, path.name) for item in document["cases"]]


def _case(defaults: Mapping[str, Any], item: Mapping[str, Any], file: str) -> Case:
    merged = {**defaults, **item}
    if isinstance(item.get("send"), dict) and "builder" not in item["send"]:
        merged["send"] = {**defaults["send"], **item["send"]}
    for name in ("status", "code"):
        merged[name] = tuple(_listed(merged.get(name, ())))
    if merged.get("slow_receipt"):
        merged["at"] = "impatient"
    _check(merged, f"{file}: {merged.get('id')}")
    return Case(**merged)


def _listed(value: Any) -> list[Any]:
    """One or several, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check(merged: Mapping[str, Any], where: str) -> None:
    unknown = merged.keys() - {field.name for field in fields(Case)}
    assert not unknown, f"{where}: unknown {sorted(unknown)}"
    for name, kind in (("connection", Connection), ("then", Then), ("at", Server)):
        assert merged.get(name, get_args(kind)[0]) in get_args(kind), (
            f"{where}: {name}: {merged[name]}"
        )


CASES = [case for path in sorted(Path(__file__).parent.glob("*.yaml")) for case in _read(path)]
