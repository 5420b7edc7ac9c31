"""The conditions on which ports may face a network."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.keys.certificates import write_pair

from headrace.admin.settings import AdminSettings
from headrace.commands.preflight import check_exposure
from headrace.config import Settings
from headrace.edge.readers import Readers
from headrace.errors import StartFailed
from headrace.gateway.settings import GatewaySettings
from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now

LOOPBACK, NETWORK = "127.0.0.1", "0.0.0.0"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "keys.json"
    add_key(path, issue("test", utc_now())[0])
    return {"keys": path}


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Any]:
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(*pair)
    return {"tls_certificate": pair[0], "tls_key": pair[1]}


def settings(data: str = LOOPBACK, admin: str = LOOPBACK, **gateway: Any) -> Settings:
    return Settings(gateway=GatewaySettings(host=data, **gateway), admin=AdminSettings(host=admin))


def refusal(asked: Settings) -> str:
    with pytest.raises(StartFailed) as caught:
        check_exposure(asked)
    assert "\n" not in caught.value.message
    assert "--insecure" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    assert check_exposure(settings(host, host)) is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.0.2.1", "10.0.0.1", "models.example", "127.0.0.1.example"]
)
def test_every_other_address_than_loopback_is_a_network(host: str) -> None:
    assert f"the data port on {host} has no keys" in refusal(settings(host))


@pytest.mark.parametrize(
    ("data", "admin", "has_keys", "has_tls", "lacking"),
    [
        (
            NETWORK,
            LOOPBACK,
            False,
            False,
            ["data port on 0.0.0.0 has no keys (gateway.keys) and no TLS"],
        ),
        (NETWORK, LOOPBACK, True, False, ["data port on 0.0.0.0 has no TLS"]),
        (NETWORK, LOOPBACK, False, True, ["data port on 0.0.0.0 has no keys"]),
        (LOOPBACK, NETWORK, False, False, ["admin port on 0.0.0.0 has no keys"]),
        (LOOPBACK, NETWORK, False, True, ["admin port on 0.0.0.0 has no keys"]),
        (
            NETWORK,
            NETWORK,
            False,
            True,
            ["data port on 0.0.0.0 has no keys", "admin port on 0.0.0.0 has no keys"],
        ),
        (NETWORK, NETWORK, True, False, ["data port on 0.0.0.0 has no TLS"]),
        (NETWORK, NETWORK, True, True, []),
        (LOOPBACK, NETWORK, True, False, []),
        (LOOPBACK, LOOPBACK, True, True, []),
    ],
)
def test_missing_protection_is_named_in_one_line(
    keys: dict[str, Any],
    tls: dict[str, Any],
    data: str,
    admin: str,
    has_keys: bool,
    has_tls: bool,
    lacking: list[str],
) -> None:
    given = (keys if has_keys else {}) | (tls if has_tls else {})
    asked = settings(data, admin, **given)
    if lacking:
        message = refusal(asked)
        assert all(part in message for part in lacking)
        assert message.count(" port on ") == len(lacking)
    else:
        assert check_exposure(asked) is None


def test_insecure_turns_missing_protection_into_a_warning() -> None:
    warning = check_exposure(settings(NETWORK, NETWORK, insecure=True))
    assert warning is not None
    assert warning.startswith("insecure: the data port on 0.0.0.0 has no keys")
    assert check_exposure(settings(insecure=True)) is None


@pytest.mark.parametrize("host", [LOOPBACK, NETWORK])
def test_a_key_file_without_a_valid_key_is_refused_at_any_address(
    tmp_path: Path, host: str, tls: dict[str, Any]
) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(StartFailed, match="No such file"):
        check_exposure(settings(host, keys=path, insecure=True, **tls))
    now = utc_now()
    add_key(path, issue("old", now - timedelta(days=2), expires=now - timedelta(days=1))[0])
    add_key(path, issue("leaked", now)[0].model_copy(update={"revoked": True}))
    with pytest.raises(StartFailed, match="expected a valid key, found none"):
        check_exposure(settings(host, keys=path, insecure=True, **tls))


def test_an_unusable_certificate_is_refused_at_any_address(
    tls: dict[str, Any],
) -> None:
    tls["tls_key"].chmod(0o644)
    with pytest.raises(StartFailed, match="expected mode 0600"):
        check_exposure(settings(insecure=True, **tls))


@pytest.mark.parametrize("alone", ["tls_certificate", "tls_key"])
def test_half_of_a_certificate_is_refused(alone: str) -> None:
    with pytest.raises(ValidationError, match="expected tls_certificate and tls_key, or neither"):
        GatewaySettings.model_validate({alone: Path("tls.pem")})


def test_paths_are_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert GatewaySettings(keys=Path("keys.json")).keys == tmp_path / "keys.json"


def test_metrics_are_open_beyond_loopback_only_with_insecure_and_without_keys(
    keys: dict[str, Any],
) -> None:
    asked = [settings(), settings(insecure=True), settings(**keys), settings(insecure=True, **keys)]
    assert [one.gateway.readers("t").is_open for one in asked] == [False, True, False, False]
    assert asked[2].gateway.readers("t") == Readers("t", keys["keys"])


def test_a_cluster_that_is_insecure_says_that_its_metrics_are_open(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert "metrics of every process" in (check_exposure(settings(insecure=True)) or "")
    assert check_exposure(settings()) is None
    assert check_exposure(settings(insecure=True, **keys)) is None
