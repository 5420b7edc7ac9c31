"""Wrong values in a `model.toml` are refused in plain English."""

from pathlib import Path

import pytest

from headrace_models.errors import BadSpec
from headrace_models.spec import ModelSpec
from headrace_models.strict_toml import read_toml

# All but what each test adds at its front, before the first table.
REST = """
golden = "g"
[weights]
onnx = "m"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [3]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [3]
[files]
"""


@pytest.mark.parametrize(
    ("front", "refusal"),
    [
        ('name = "a"', "1: version: expected a value, found none"),
        ('name = "a"\nversion = 1', "2: version: expected a string, found 1"),
        (
            'name = "../a"\nversion = "1"',
            "1: name: expected a string that matches ^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$, "
            "found '../a'",
        ),
        ('name = "a"\nversion = "1"\nedition = "3"', "3: edition: expected an integer, found '3'"),
        (
            'name = "a"\nversion = "1"\npreprocess = {kind = "x"}',
            "3: preprocess: expected a 'kind' of 'image', 'text', 'characters', 'audio', found 'x'",
        ),
        (
            'name = "a"\nversion = "1"\npreprocess = {}',
            "3: preprocess: expected a table with the key 'kind'",
        ),
    ],
)
def test_a_refused_spec_names_what_was_expected(tmp_path: Path, front: str, refusal: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(front + REST, encoding="utf-8")
    with pytest.raises(BadSpec) as raised:
        read_toml(ModelSpec, path)
    assert str(raised.value) == f"{path}:{refusal}"


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(f'name = "{"x " * 200_000}"\nversion = "1"{REST}', encoding="utf-8")
    with pytest.raises(BadSpec) as raised:
        read_toml(ModelSpec, path)
    assert str(raised.value).endswith("x x...")
    assert len(str(raised.value)) < len(str(path)) + 300
