"""KServe's inference client, unmodified, over its protocols v1 and v2: it gets the golden answers.

It needs other versions of what is installed here, so it runs in an environment of its own, made
once.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.checkout import REPOSITORY
from tests.platform.running import Platform

from headrace_models.build import ZOO
from headrace_models.golden import read_golden
from headrace_models.repository import scan

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

PACKAGE = "kserve==0.21.0"
ENVIRONMENT = Path(".cache/clients", PACKAGE.replace("==", "-"))
INSTALL_TIMEOUT_S, CLIENT_TIMEOUT_S = 600, 120
MODELS = sorted(ZOO)


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has the client; a minute and 450 MB the first time."""
    done = ENVIRONMENT / "done"
    python = ENVIRONMENT.absolute() / "bin" / "python"
    if done.exists():
        return python
    try:
        _run(sys.executable, "-m", "venv", "--clear", ENVIRONMENT)
        _run(python, "-m", "pip", "install", PACKAGE)
    except subprocess.TimeoutExpired as error:
        pytest.skip(f"{PACKAGE} was not installed in {error.timeout:.0f} s")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{PACKAGE} cannot be installed: {error.stderr.strip().splitlines()[-1:]}")
    done.touch()
    return python


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)


@pytest.fixture(scope="module")
def told(served: Platform, python: Path) -> Any:
    """All that the client was answered."""
    golden = [
        f"{version.spec.name}={version.path(version.spec.golden)}"
        for version in scan(REPOSITORY, MODELS)[0]
    ]
    script = Path(__file__).with_name("kserve_client.py")
    done = subprocess.run(
        [python, "-I", script, f"http://127.0.0.1:{served.port}", *golden],
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout)


def outputs_of(model: str) -> dict[str, np.ndarray]:
    return read_golden(scan(REPOSITORY, [model])[0][0])[1]


def assert_golden(found: Any, model: str, *, first_row: bool = False) -> None:
    expected = outputs_of(model)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(
            found[name], array[:1] if first_row else array, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("form", ["v2 binary", "v2 json"])
def test_the_client_gets_the_golden_answer(told: Any, model: str, form: str) -> None:
    assert_golden(told["models"][model][form], model)


@pytest.mark.parametrize("model", MODELS)
def test_the_v1_client_gets_the_golden_answer_by_row(told: Any, model: str) -> None:
    (row,) = told["models"][model]["v1 rows"]
    outputs = list(outputs_of(model))
    assert_golden(
        {outputs[0]: [row]} if len(outputs) == 1 else {n: [row[n]] for n in row},
        model,
        first_row=True,
    )


@pytest.mark.parametrize("model", MODELS)
def test_the_v1_client_gets_the_golden_answer_by_column(told: Any, model: str) -> None:
    columns = told["models"][model]["v1 columns"]
    outputs = list(outputs_of(model))
    assert_golden({outputs[0]: columns} if len(outputs) == 1 else columns, model, first_row=True)


def test_health_is_told_by_both_protocols(told: Any) -> None:
    assert told["health"]["live"] == [True, True]
    assert told["health"]["ready"] is True
    assert [told["models"][model]["ready"] for model in MODELS] == [[True, True]] * len(MODELS)


def test_errors_reach_the_client_s_user_as_their_sentence(told: Any) -> None:
    health = told["health"]
    assert health["unknown model"] is False
    assert health["unknown model, v1"].startswith("no such model, '404 Not Found'")
    assert health["bad input"].startswith(
        "inputs: expected a non-empty array of objects, '400 Bad Request'"
    )
    assert health["explain"].startswith("no such path, '404 Not Found'")
