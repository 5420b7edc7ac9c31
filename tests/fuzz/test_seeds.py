"""The seeds of the fuzzer, without it: each belongs to a target, and the codec reads them."""

from pathlib import Path

import pytest
from tests.fuzz.codec import codec

from headrace.errors import HeadraceError

FOLDER = Path(__file__).parent


def test_each_folder_of_seeds_belongs_to_a_target_of_the_same_name() -> None:
    targets = {
        path.stem for path in FOLDER.glob("*.py") if f'fuzz("{path.stem}"' in path.read_text()
    }
    assert {path.name for path in (FOLDER / "seeds").iterdir()} == targets


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("every-datatype", ""),
        ("floats", ""),
        ("parameters", ""),
        ("values", "bad_json"),
    ],
)
def test_the_codec_reads_the_seeds_of_json_bodies(name: str, code: str) -> None:
    body = (FOLDER / "seeds" / "json_body" / f"{name}.json").read_bytes()
    found = ""
    try:
        codec().decode(body, None)
    except HeadraceError as error:
        found = error.code
    assert found == code
