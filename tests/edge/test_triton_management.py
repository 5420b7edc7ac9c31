"""Log and trace settings as requests change them."""

import orjson
import pytest

from headrace.edge.triton_management import (
    changed_logging,
    check_tracing,
    logging_document,
    tracing_document,
)
from headrace.errors import BadJson, BadRequest
from headrace.telemetry.logs import LogSettings


def test_what_is_not_listed_stays_as_it_is() -> None:
    before = LogSettings(log_info=False, log_verbose_level=3)
    after = changed_logging(before, b'{"log_warning": false, "log_info": null, "log_file": ""}')
    assert after == LogSettings(log_info=False, log_warning=False, log_verbose_level=3)
    assert changed_logging(before, b"") == before


def test_the_document_has_every_setting_that_triton_has() -> None:
    assert orjson.loads(logging_document(LogSettings())) == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"log_file": "/etc/passwd"}', "log_file"),
        (b'{"log_info": "yes"}', "log_info"),
        (b'{"log_info": 1}', "log_info"),
        (b'{"log_verbose_level": -1}', "log_verbose_level"),
        (b'{"log_verbose_level": 1e9}', "log_verbose_level"),
        (b'{"log_format": "xml"}', "log_format"),
        (b'{"log_\\n\\u001b[2J": 1}', r"log_\?\?\[2J"),
        (b"[]", "body"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(body: bytes, field: str) -> None:
    with pytest.raises(BadRequest, match=field) as raised:
        changed_logging(LogSettings(), body)
    assert raised.value.message.isprintable()
    assert "passwd" not in raised.value.message


@pytest.mark.parametrize("depth", [200, 252, 253, 254, 255, 300, 1000, 1023, 1024, 30_000])
@pytest.mark.parametrize(("opening", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_any_depth_beside_a_null_is_refused(depth: int, opening: str, end: str) -> None:
    for member in ('"log_info":null', '"log_warning":{"a":null}'):
        with pytest.raises(BadRequest):
            changed_logging(
                LogSettings(),
                f'{{{member},"log_file":{opening * depth}null{end * depth}}}'.encode(),
            )


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(BadJson):
        changed_logging(LogSettings(), b"{")


def test_tracing_is_off_and_may_be_set_to_what_it_is() -> None:
    assert orjson.loads(tracing_document())["trace_level"] == ["OFF"]
    check_tracing(b'{"trace_level": ["OFF"], "trace_rate": null}')
    check_tracing(tracing_document())


@pytest.mark.parametrize(
    "body",
    [
        b'{"trace_level": ["TIMESTAMPS"]}',
        b'{"trace_file": "/tmp/x"}',
        b'{"trace_rate": 1}',
        b'{"more": "1"}',
    ],
)
def test_tracing_cannot_be_turned_on(body: bytes) -> None:
    with pytest.raises(BadRequest):
        check_tracing(body)
