"""Takes a user's own ONNX file into the repository: its spec is read from the file itself."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_models.candidate import Candidate, first_line
from headrace_models.errors import BadSpec, told_in_a_sentence
from headrace_models.precision import rows_tolerance
from headrace_models.repository import read_version, sha256_of, verify
from headrace_models.spec import Batching
from headrace_models.trials import DATATYPES
from headrace_models.zoo.draft import ONNX_FILE, Draft, write_version

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["add"]

_MAX_ROWS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def _silent(_: str) -> None:
    """Nobody is told."""


def add(onnx_file: Path, name: str, root: Path, version: str = "1", tell: Callable[[str], None] = _silent) -> Path:
    """Copy `onnx_file` to `root/name/version`, with a spec made from it; returns that folder.

    Requests share batches if the model's rows are shown to be independent; else they are served one at a time, and
    `tell` is given the reason in a sentence. The same file may be added again; another one under a version that exists
    is refused.
    Raises BadSpec if the file cannot be served, saying what was expected and what was found; ModelError if it cannot be
    read, or the repository cannot be written.
    """
    for value, pattern, what in ((name, _NAME, "name"), (version, _VERSION, "version")):
        if not pattern.fullmatch(value):
            raise BadSpec(str(onnx_file), f'{what}: expected letters, digits, ".", "_" or "-", found "{value}"')
    folder = root / name / version
    with told_in_a_sentence(root):
        if not onnx_file.is_file():
            raise BadSpec(str(onnx_file), "expected an ONNX file, found none")
        if folder.exists():
            return _already_there(folder, onnx_file)
    return write_version(root, name, version, lambda making: _draft(onnx_file, name, version, making, tell))


def _already_there(folder: Path, onnx_file: Path) -> Path:
    found = read_version(folder)
    verify(found)
    expected = sha256_of(onnx_file)
    if found.spec.files.get(ONNX_FILE) != expected:
        held = found.spec.files.get(ONNX_FILE, "none")
        reason = f"this version exists: expected SHA-256 {expected[:12]}… of {onnx_file}, found {held[:12]}…"
        raise BadSpec(str(folder), f"{reason}; choose another version")
    return folder


def _draft(onnx_file: Path, name: str, version: str, folder: Path, tell: Callable[[str], None]) -> Draft:
    shutil.copyfile(onnx_file, folder / ONNX_FILE)
    # The copy is opened, not the file: weights that lie beside the file were left behind, and that must show here.
    session = _open(folder / ONNX_FILE, str(onnx_file))
    _check_types(session, str(onnx_file))
    candidate = Candidate(session, str(onnx_file))
    found = candidate.find()
    inputs, outputs = candidate.describe_inputs(found), candidate.describe_outputs(found)
    tolerance = rows_tolerance(folder / ONNX_FILE)
    batching: dict[str, object] = {"max_rows": _MAX_ROWS}
    if tolerance != Batching().tolerance:
        batching["tolerance"] = tolerance
    if reason := candidate.why_unbatched(found, tolerance, tell):
        tell(f"{reason}; served one request at a time")
        batching["rows"] = "none"
    document: dict[str, object] = {
        "name": name,
        "version": version,
        "source": onnx_file.name,
        "backend": "onnx",
        "weights": {"onnx": ONNX_FILE},
        "inputs": inputs,
        "outputs": outputs,
        "batching": batching,
    }
    return Draft(document, candidate.golden_inputs(found))


def _open(path: Path, place: str) -> "InferenceSession":
    # Here, not above: naming this module must not need a runtime.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # trials may fail, and say so by raising
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        if "external data" in str(error).lower():
            reason = "expected one file with its weights inside, found weights kept in other files"
        else:
            reason = (
                f"expected a model that ONNX Runtime can open, found: {first_line(error).replace(str(path), place)}"
            )
        raise BadSpec(place, reason) from None


def _check_types(session: "InferenceSession", place: str) -> None:
    if not session.get_inputs():
        raise BadSpec(place, "expected inputs, found none")
    for side, values in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for value in values:
            if value.type not in DATATYPES:
                raise BadSpec(place, f'{side} "{value.name}": {_unfit(value.type)}')


def _unfit(kind: str) -> str:
    expected = f"expected a tensor of numbers, booleans or texts, found {kind}"
    if kind.startswith("seq(map"):
        return f'{expected}; convert the model with options={{"zipmap": False}}'
    return expected
