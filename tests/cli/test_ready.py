"""The output of `headrace serve` when it is ready: commands that work as printed."""

import pytest

from headrace.admin.settings import AdminSettings
from headrace.commands.serve import say_ready
from headrace.config import Settings
from headrace.gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("fe80::1", "[fe80::1]")]
)
def test_an_address_stands_as_in_a_url(
    host: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_ready(
        Settings(gateway=GatewaySettings(host=host), admin=AdminSettings(host=host)), ["mail-spam"]
    )
    said = capsys.readouterr().out
    assert f"  data   http://{shown}:8000   models: mail-spam" in said
    assert f"  admin  http://{shown}:8001/metrics" in said
    assert f"  curl http://{shown}:8000/v2/health/ready" in said
    assert f"  curl http://{shown}:8000/v1/models/mail-spam:classify" in said
