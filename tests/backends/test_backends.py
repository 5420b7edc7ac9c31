"""The table of backends: every name is known, has Triton's names and a module that loads models."""

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest
from tests.backends.own_models import identity

from headrace import backends
from headrace_models.spec import BACKENDS, BackendName

NAMES = get_args(BackendName)


def test_every_backend_that_a_model_may_name_is_in_the_table() -> None:
    assert set(BACKENDS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_backend_has_a_module_that_loads_a_model(name: str) -> None:
    load = import_module(f"headrace.backends.{name}").load
    assert list(signature(load).parameters) == ["version"]
    assert signature(load).return_annotation is backends.Backend


@pytest.mark.parametrize("names", ["triton_platform", "triton_backend"])
def test_triton_has_a_name_of_its_own_for_each(names: str) -> None:
    assert len({getattr(backend, names) for backend in BACKENDS.values()}) == len(NAMES)


def test_a_backend_that_is_not_in_the_table_is_refused(tmp_path: Path) -> None:
    version = identity(tmp_path, "FP32")
    with pytest.raises(ValueError, match=r"backend: expected one of \[.*\], found 'tensorrt'"):
        backends.load(version, "tensorrt")
