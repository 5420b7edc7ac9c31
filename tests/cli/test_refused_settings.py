"""A wrong setting is refused in plain English: what was expected, and what was found."""

from pathlib import Path

import pytest

from headrace.config import Settings, read_settings, with_options
from headrace.errors import StartFailed


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "x=1",
            '1: unknown key "x"; known here: admin, gateway, model, models, objectives, serve',
        ),
        ('[gateway]\nport="a"', "2: gateway.port: expected an integer, found 'a'"),
        ("[gateway]\nport=0", "2: gateway.port: expected 1 or more, found 0"),
        (
            "[gateway]\nmax_body_bytes=100",
            "2: gateway.max_body_bytes: expected 1024 or more, found 100",
        ),
        (
            '[gateway]\ntls_key="k"',
            "1: gateway: expected tls_certificate and tls_key, or neither; found one of them",
        ),
        (
            '[gateway]\nnames=["http://a"]',
            "2: gateway.names.0: expected a name without scheme and port, as models.example, "
            "or \"*\", found 'http://a'",
        ),
        ("[model.a]\ncache_s=0", "2: model.a.cache_s: expected more than 0, found 0"),
        (
            '[model.a]\nbackend="trt"',
            "2: model.a.backend: expected 'onnx' or 'torch', found 'trt'",
        ),
        (
            "[model.a]\nmax_body_bytes=70000000",
            "2: model.a.max_body_bytes: expected 67108864 or less, found 70000000",
        ),
        ("[objectives.a]\np99_ms=0", "2: objectives.a.p99_ms: expected more than 0, found 0"),
        ('serve="a"', "1: serve: expected a list, found 'a'"),
        ("models=3", "1: models: expected a path, found 3"),
        ("[admin]\nport=99999", "2: admin.port: expected 65535 or less, found 99999"),
        (
            "[gateway]\nshutdown_delay_s=31",
            "2: gateway.shutdown_delay_s: expected 30 or less, found 31",
        ),
        ('[gateway]\nnames="a"', "2: gateway.names: expected a list, found 'a'"),
        ("[model.a]\ncpus=0", "2: model.a.cpus: expected more than 0, found 0"),
        ("[gateway]\nmax_in_flight=0", "2: gateway.max_in_flight: expected 1 or more, found 0"),
        (
            "[gateway]\ndefault_timeout_s=301",
            "2: gateway.default_timeout_s: expected 300 or less, found 301",
        ),
        ("[model.a]\nlabels={a=1}", "2: model.a.labels.a: expected a string, found 1"),
        ("[gateway]\ninsecure=2", "2: gateway.insecure: expected true or false, found 2"),
        ("gateway=1", "1: gateway: expected a table, found 1"),
        ("model=1", "1: model: expected a table, found 1"),
        ("[model.a]\ncpus='x'", "2: model.a.cpus: expected a number, found 'x'"),
        ("[gateway]\nport=1.5", "2: gateway.port: expected an integer, found 1.5"),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_was_found(
    tmp_path: Path, text: str, refusal: str
) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StartFailed) as raised:
        read_settings(path)
    assert str(raised.value) == f"{path}:{refusal}"


@pytest.mark.parametrize(
    "text",
    [
        "[gateway]\nport=8000.0",
        "[gateway]\nport=true",
        '[gateway]\norigins=["https://A.example:443"]',
        '[model.a]\nlabels={a="1"}',
        '[gateway]\ninsecure="yes"',
        "[gateway]\ninsecure=1",
    ],
)
def test_a_value_that_can_be_meant_is_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(text, encoding="utf-8")
    read_settings(path)


@pytest.mark.parametrize(
    ("path", "value", "refusal"),
    [
        (("gateway", "port"), 0, "--port: expected 1 or more, found 0"),
        (("gateway", "host"), 5, "--host: expected a string, found 5"),
        (("admin", "port"), 99999, "--admin-port: expected 65535 or less, found 99999"),
    ],
)
def test_a_refused_option_is_named(path: tuple[str, ...], value: object, refusal: str) -> None:
    with pytest.raises(StartFailed) as raised:
        with_options(Settings(), {path: value})
    assert str(raised.value) == refusal


def test_a_long_value_is_cut_and_other_keys_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    secret, digits = "k" * 30, "9" * 5000
    path.write_text(f'[gateway]\nkeys="{secret}"\nport="{digits}x"', encoding="utf-8")
    with pytest.raises(StartFailed) as raised:
        read_settings(path)
    sentence = str(raised.value)
    assert sentence.startswith(f"{path}:3: gateway.port: expected a shorter integer, found '999")
    assert sentence.endswith("9...")
    assert len(sentence) < len(str(path)) + 200
    assert secret not in sentence
