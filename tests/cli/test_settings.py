"""headrace.toml: what it may have, what is refused, and the page that says so."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.admin.settings import AdminSettings
from headrace.cli import app
from headrace.commands.reference import reference
from headrace.config import Settings, read_settings, with_options
from headrace.edge.limits import EdgeLimits
from headrace.errors import StartFailed
from headrace.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"


def written(folder: Path, text: str) -> Path:
    path = folder / "headrace.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    command = [sys.executable, "-m", "headrace.commands.reference"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert made == reference()
    assert PAGE.read_text(encoding="utf-8") == made, "make it again: its head says how"


def test_every_key_is_documented_by_a_sentence() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    meanings = [row.strip("| ").rpartition(" | ")[2] for row in rows]
    assert meanings
    assert [m for m in meanings if not m[:1].isupper() or not m.endswith(".")] == []


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--host", GatewaySettings.description_of("host")),
        ("--admin-port", AdminSettings.description_of("port")),
        ("--models", Settings.description_of("models")),
        ("--insecure", GatewaySettings.description_of("insecure")),
    ],
)
def test_options_are_explained_as_the_settings_are(option: str, sentence: str) -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    line = next(line for line in shown.splitlines() if option in line)
    assert sentence in line


def test_what_the_example_shows_as_defaults_are_the_defaults() -> None:
    path = ROOT / "headrace.toml"
    shown = tomllib.loads(path.read_text(encoding="utf-8"))
    assert Settings.model_validate(shown | {"objectives": {}}) == Settings()


def test_one_section_has_the_keys_of_all_its_parts(tmp_path: Path) -> None:
    text = "[gateway]\nport = 9000\nmax_in_flight = 3\nmax_connections = 5\nmax_body_bytes = 2048\n"
    gateway = read_settings(written(tmp_path, text)).gateway
    assert (gateway.port, gateway.max_in_flight) == (9000, 3)
    limits = EdgeLimits.of(gateway)
    assert (limits.max_connections, limits.max_body_bytes) == (5, 2048)
    assert limits.max_headers == EdgeLimits().max_headers


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[gateway]\nlimits = 3\n",
            r':2: unknown key "gateway.limits"; known here: .*max_in_flight',
        ),
        (
            "[gateway]\nport = 1\nmax_in_flight = 0\n",
            r":3: gateway.max_in_flight: expected 1 or more, found 0$",
        ),
        ("[gateway]\nmax_body_bytes = 1\n", r":2: gateway.max_body_bytes: .* 1024"),
        (
            "[model.m]\n\ncache_bytes = -1\n",
            r":3: model.m.cache_bytes: expected 0 or more, found -1$",
        ),
        (
            "[model.m]\nbackend = 'tensorrt'\n",
            r":2: model.m.backend: expected 'onnx'.*, found 'tensorrt'$",
        ),
        ("[model.m]\ncache = 1\n", r':2: unknown key "model.m.cache"; known here: .*cache_bytes'),
        ("[admin]\nkeys = 'k'\n", r':2: unknown key "admin.keys"; known here: host, port'),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(StartFailed, match=complaint):
        read_settings(written(tmp_path, text))


def test_options_go_before_the_file_and_have_its_bounds() -> None:
    settings = Settings(gateway=GatewaySettings(port=9000, max_in_flight=3))
    changed = with_options(settings, {("gateway", "port"): 9001, ("gateway", "host"): None})
    assert changed == Settings(gateway=GatewaySettings(port=9001, max_in_flight=3))
    with pytest.raises(StartFailed, match=r"^--admin-port: .* 65535 or less, found 70000"):
        with_options(settings, {("admin", "port"): 70_000})
