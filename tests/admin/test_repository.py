"""The repository's routes: what a request may say, and what becomes of it."""

from collections.abc import Awaitable
from typing import Any

import orjson
import pytest

from headrace.admin.repository import (
    AdminContext,
    get_logging,
    index,
    load,
    set_logging,
    unload,
    unsupported,
)
from headrace.edge.exchange import Call, Exchange, Handler, Response
from headrace.errors import BadJson, BadName, BadRequest, Conflict
from headrace.fleet.entries import Fleet
from headrace.fleet.instructions import IndexEntry, Instruction
from headrace.telemetry.logs import LogSettings

ENTRIES = (IndexEntry("m", "1", "UNAVAILABLE", "not loaded"), IndexEntry("m", "2", "READY"))


class Operator:
    """Notes orders; `failure` is what they end with."""

    def __init__(self) -> None:
        self.orders: list[Instruction] = []
        self.failure: Exception | None = None
        self.logging = LogSettings()

    async def give_instruction(self, order: Instruction) -> tuple[IndexEntry, ...]:
        self.orders.append(order)
        if self.failure:
            raise self.failure
        return ENTRIES if order.kind == "index" else ()

    async def change_logging(self, settings: LogSettings) -> LogSettings:
        self.logging = settings
        return settings

    def fleet(self) -> Fleet:
        return Fleet(1, (), (), (), self.logging)


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def context(operator: Operator) -> AdminContext:
    return AdminContext(operator.fleet, operator.give_instruction, operator.change_logging)


def call(context: AdminContext, body: bytes, model: str = "m") -> Call[AdminContext]:
    exchange = Exchange("POST", {}, "127.0.0.1", 1 << 16)
    exchange.params = {"model": model}
    return Call(context, exchange, body)


async def document(answer: Awaitable[Response]) -> Any:
    response = await answer
    assert response.status == 200
    return orjson.loads(response.body) if response.body else None


@pytest.mark.parametrize(
    ("body", "versions"),
    [
        (b"", ["1", "2"]),
        (b"{}", ["1", "2"]),
        (b'{"ready":true}', ["2"]),
        (b'{"ready":false}', ["1", "2"]),
    ],
)
async def test_the_index_has_all_versions_or_those_that_are_ready(
    context: AdminContext, body: bytes, versions: list[str]
) -> None:
    entries = await document(index(call(context, body)))
    assert [entry["version"] for entry in entries] == versions
    assert entries[-1] == {"name": "m", "version": "2", "state": "READY", "reason": ""}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters":{}}'])
async def test_load_orders_the_model(
    context: AdminContext, operator: Operator, body: bytes
) -> None:
    assert await document(load(call(context, body))) is None
    assert operator.orders == [Instruction("load", "m")]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters":{"unload_dependents":true}}'])
async def test_unload_orders_the_model(
    context: AdminContext, operator: Operator, body: bytes
) -> None:
    assert await document(unload(call(context, body))) is None
    assert operator.orders == [Instruction("unload", "m")]


async def test_what_the_operator_says_is_what_the_caller_hears(
    context: AdminContext, operator: Operator
) -> None:
    operator.failure = Conflict("version 1 is loaded with other content")
    with pytest.raises(Conflict):
        await load(call(context, b""))


@pytest.mark.parametrize(
    ("handler", "body", "said"),
    [
        (load, b'{"parameters":{"config":"{}"}}', "add the version to the repository"),
        (
            load,
            b'{"parameters":{"file:1/model.onnx":"AAAA"}}',
            "add the version to the repository",
        ),
        (load, b'{"parameters":{"odd\\n":1}}', r'"odd\?"'),
        (load, b'{"url":"http://x"}', '"url"'),
        (unload, b'{"parameters":{"unload_dependents":1}}', "unload_dependents"),
        (unload, b'{"parameters":{"config":"{}"}}', "config"),
        (index, b'{"ready":"true"}', "ready"),
        (index, b"[]", "body"),
        (unsupported, b"", "only one repository"),
    ],
)
async def test_what_is_not_done_is_refused_by_its_name_and_nothing_is_ordered(
    context: AdminContext,
    operator: Operator,
    handler: Handler[AdminContext],
    body: bytes,
    said: str,
) -> None:
    with pytest.raises(BadRequest, match=said):
        await handler(call(context, body))
    assert operator.orders == []


@pytest.mark.parametrize("handler", [index, load, unload, set_logging])
async def test_a_body_that_is_no_json_is_refused(
    context: AdminContext, handler: Handler[AdminContext]
) -> None:
    with pytest.raises(BadJson):
        await handler(call(context, b"\xff{"))


@pytest.mark.parametrize("handler", [load, unload])
@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "/etc/passwd",
        "a\0b",
        "a/b",
        "a\n",
        "~",
        "-x",
        "é",
        "m\u200b",
        "m" * 129,
        "a\r\nX: y",
    ],
)
async def test_a_name_that_no_model_can_have_never_reaches_the_operator(
    context: AdminContext, operator: Operator, handler: Handler[AdminContext], name: str
) -> None:
    with pytest.raises(BadName):
        await handler(call(context, b"{", name))
    assert operator.orders == []


async def test_log_settings_are_read_and_changed(context: AdminContext, operator: Operator) -> None:
    changed = await document(set_logging(call(context, b'{"log_info":false}')))
    assert changed == await document(get_logging(call(context, b"")))
    assert operator.logging == LogSettings(log_info=False)
