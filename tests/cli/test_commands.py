"""Commands that fail without a platform: one sentence each, and exit code 1."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.commands.terminal import Commands


def typed(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def sentence(done: Result) -> str:
    """The one line on stderr of a command that exited with 1 and an empty stdout."""
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("headrace: ")
    return line.removeprefix("headrace: ")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings and without models."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
@pytest.mark.parametrize(
    ("value", "bound"),
    [
        ("0", "1 or more"),
        ("-1", "1 or more"),
        ("99999", "65535 or less"),
    ],
)
def test_an_option_is_held_to_the_bounds_of_the_file_and_named(
    option: str, value: str, bound: str
) -> None:
    said = sentence(typed("serve", f"{option}={value}"))
    assert said == f"{option}: expected {bound}, found {value}"


def test_an_option_wins_over_the_file_and_leaves_the_rest_of_it(elsewhere: Path) -> None:
    (elsewhere / "headrace.toml").write_text('models = "there"\n[gateway]\nport = 8500\n')
    assert "there: expected a model to serve" in sentence(typed("serve"))
    assert "here: expected a model to serve" in sentence(typed("serve", "--models", "here"))
    assert sentence(typed("serve", "--admin-port", "8500")).startswith(
        "expected two ports, found 127.0.0.1:8500"
    )


def test_an_empty_list_of_models_says_how_to_build_some() -> None:
    assert sentence(typed("models", "list")) == (
        "models/repository: expected models, found none; build the zoo with: headrace models build"
    )
    assert "nowhere: expected models" in sentence(typed("models", "list", "--models", "nowhere"))


def test_a_list_of_refused_models_says_where_to_look(elsewhere: Path) -> None:
    version = elsewhere / "models" / "broken" / "1"
    version.mkdir(parents=True)
    (version / "model.toml").write_text("not TOML")
    assert "headrace models check --models models" in sentence(
        typed("models", "list", "--models", "models")
    )


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "revoke", "no-id"]])
def test_a_key_file_that_is_not_there_is_one_sentence(command: list[str]) -> None:
    assert "keys.json" in sentence(typed(*command))


@pytest.mark.parametrize("command", [["serve"], ["loadtest"]])
def test_a_file_of_settings_that_is_wrong_is_one_sentence(
    elsewhere: Path, command: list[str]
) -> None:
    (elsewhere / "headrace.toml").write_text("[gateway]\nport = 99999\n")
    assert sentence(typed(*command)).startswith("headrace.toml:2: gateway.port:")


def test_an_unexpected_error_is_one_line_with_its_log_and_so_is_an_interrupt() -> None:
    other = typer.Typer(cls=Commands)

    @other.command()
    def burn() -> None:
        raise RuntimeError("the disk\nis on fire")

    @other.command()
    def interrupt() -> None:
        raise KeyboardInterrupt

    interrupted = CliRunner().invoke(other, ["interrupt"])
    assert (interrupted.exit_code, interrupted.stderr) == (130, "headrace: interrupted\n")
    said = sentence(CliRunner().invoke(other, ["burn"]))
    assert said.startswith("unexpected RuntimeError: the disk (the traceback is in ")
    place = Path(said.rpartition(" ")[2].removesuffix(")"))
    assert "is on fire" in place.read_text(encoding="utf-8")
    assert place.stat().st_mode & 0o077 == 0
    place.unlink()


@pytest.mark.parametrize(
    "command",
    [
        *("serve", "loadtest", "status", "keys create", "keys list", "keys revoke"),
        *("models build", "models list", "models check", "models add"),
    ],
)
@pytest.mark.parametrize("width", [80, 160])
def test_the_help_of_a_command_has_its_example_whole_on_one_line(command: str, width: int) -> None:
    runner = CliRunner(env={"COLUMNS": str(width)})
    lines = runner.invoke(app, [*command.split(), "--help"]).stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f" Example: headrace {command}"))
    assert lines[at + 1].strip() == ""


def test_the_command_line_loads_no_server() -> None:
    program = "import sys, headrace.cli; print('headrace.edge.server' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_help_breaks_no_sentence_where_its_source_does() -> None:
    wide = CliRunner(env={"COLUMNS": "160"})
    for group, end in (
        ([], "what is in flight and exit."),
        (["models"], "to see if rows can batch."),
    ):
        assert end in wide.invoke(app, [*group, "--help"]).stdout
    assert "with [objectives]" in wide.invoke(app, ["loadtest", "--help"]).stdout


def test_typers_own_ways_to_end_are_left_alone() -> None:
    assert typed("serve", "--no-such-option").exit_code == 2
    assert typed("--help").exit_code == 0


DIVERTED = """
import os, subprocess, sys
from pathlib import Path
from headrace.commands.terminal import divert, err, out

divert(Path(sys.argv[1]))
os.write(1, b"of a library, to 1\\n")
os.write(2, b"of a library, to 2\\n")
print("of a library, by print")
print("of a library, to stderr", file=sys.stderr)
subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
out.print("ours, to stdout")
err.print("ours, to stderr")
"""


def test_only_our_output_reaches_the_terminal_and_the_rest_a_private_file(
    elsewhere: Path,
) -> None:
    log = elsewhere / "log"
    done = subprocess.run(
        [sys.executable, "-c", DIVERTED, str(log)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("ours, to stdout\n", "ours, to stderr\n")
    assert log.read_text(encoding="utf-8").count("of a ") == 5
    assert log.stat().st_mode & 0o777 == 0o600
