"""Takes a user's own ONNX file into the repository: its spec is read from the file itself."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headrace_models.errors import BadSpec
from headrace_models.repository import read_version, sha256_of, verify
from headrace_models.spec import DTYPES
from headrace_models.zoo.draft import Draft, write_version

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

__all__ = ["add"]

_ONNX_FILE = "model.onnx"
_MAX_ROWS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_DATATYPES: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}
# Rows to try a model with that takes any number: two show that it keeps them apart.
_TRIAL_ROWS = 2
# Lengths to try variable axes with: a text's, an image's small, an image's usual.
_TRIAL_LENGTHS = (16, 64, 224)

Arrays = dict[str, npt.NDArray[Any]]


def add(onnx_file: Path, name: str, root: Path, version: str = "1") -> Path:
    """Copy `onnx_file` to `root/name/version`, with a spec made from it; returns that folder.

    A first axis of symbolic size makes batches of any size; a fixed one makes batches of just that size. The same
    file may be added again; another one under a version that exists is refused.
    Raises BadSpec if the file cannot be served, saying what was expected and what was found.
    """
    for value, pattern, what in ((name, _NAME, "name"), (version, _VERSION, "version")):
        if not pattern.fullmatch(value):
            raise BadSpec(str(onnx_file), f'{what}: expected letters, digits, ".", "_" or "-", found "{value}"')
    if not onnx_file.is_file():
        raise BadSpec(str(onnx_file), "expected an ONNX file, found none")
    folder = root / name / version
    if folder.exists():
        return _already_there(folder, onnx_file)
    return write_version(root, name, version, lambda making: _draft(onnx_file, name, version, making))


def _already_there(folder: Path, onnx_file: Path) -> Path:
    found = read_version(folder)
    verify(found)
    expected = sha256_of(onnx_file)
    if found.spec.files.get(_ONNX_FILE) != expected:
        held = found.spec.files.get(_ONNX_FILE, "none")
        reason = f"this version exists: expected SHA-256 {expected[:12]}… of {onnx_file}, found {held[:12]}…"
        raise BadSpec(str(folder), f"{reason}; choose another version")
    return folder


def _draft(onnx_file: Path, name: str, version: str, folder: Path) -> Draft:
    shutil.copyfile(onnx_file, folder / _ONNX_FILE)
    # The copy is opened, not the file: weights that lie beside the file were left behind, and that must show here.
    session = _open(folder / _ONNX_FILE, onnx_file)
    rows = _fixed_rows(session, onnx_file)
    trial = _try(session, onnx_file, rows or _TRIAL_ROWS)
    batching: dict[str, object] = {"max_rows": rows or _MAX_ROWS}
    if rows:
        batching["fixed_rows"] = rows
    document: dict[str, object] = {
        "name": name,
        "version": version,
        "source": onnx_file.name,
        "backend": "onnx",
        "weights": {"onnx": _ONNX_FILE},
        "inputs": [_tensor(value, onnx_file) for value in session.get_inputs()],
        "outputs": [_output(value, onnx_file, trial[value.name]) for value in session.get_outputs()],
        "batching": batching,
    }
    return Draft(document, _golden_inputs(session, onnx_file, trial))


def _open(path: Path, onnx_file: Path) -> "InferenceSession":
    # Here, not above: the spec of the command line must load without a runtime.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        message = str(error)
        if "external" in message.lower() or "GetFileLength" in message or "No such file" in message:
            reason = "expected one file with its weights inside, found weights kept in other files"
        else:
            reason = f"expected a model that ONNX Runtime can open, found: {_first_line(message)}"
        raise BadSpec(str(onnx_file), reason) from None


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0][:300] if message.strip() else "no message"


def _fixed_rows(session: "InferenceSession", onnx_file: Path) -> int | None:
    """The batch size baked into the inputs' first axes; None where any size goes."""
    sizes: dict[str, int | None] = {}
    for value in session.get_inputs():
        shape = _shape(value, onnx_file)
        if not shape:
            raise BadSpec(str(onnx_file), f'input "{value.name}": expected rows on a first axis, found a scalar')
        sizes[value.name] = None if shape[0] == -1 else shape[0]
    if not sizes:
        raise BadSpec(str(onnx_file), "expected at least one input, found none")
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name}: {size or 'any'}" for name, size in sizes.items())
        raise BadSpec(str(onnx_file), f"expected the same first axis, the rows, in every input, found {found}")
    return next(iter(sizes.values()))


def _shape(value: "NodeArg", onnx_file: Path) -> list[int]:
    """All axes, rows first; -1 where the file names a size or gives none. Raises BadSpec unless it is a tensor."""
    if value.type not in _DATATYPES:
        reason = f'"{value.name}": expected a tensor of numbers or booleans, found {value.type}'
        raise BadSpec(str(onnx_file), reason)
    return [axis if isinstance(axis, int) and axis > 0 else -1 for axis in value.shape]


def _tensor(value: "NodeArg", onnx_file: Path) -> dict[str, object]:
    return {"name": value.name, "datatype": _DATATYPES[value.type], "shape": _shape(value, onnx_file)[1:]}


def _output(value: "NodeArg", onnx_file: Path, trial: npt.NDArray[Any]) -> dict[str, object]:
    """As the file declares it; where it declares no axes, as many variable ones as the trial showed."""
    declared = _shape(value, onnx_file)
    shape = declared[1:] if len(declared) == trial.ndim else [-1] * (trial.ndim - 1)
    return {"name": value.name, "datatype": _DATATYPES[value.type], "shape": shape}


def _try(session: "InferenceSession", onnx_file: Path, rows: int) -> Arrays:
    """Run on zeros, which every model must bear. Returns inputs and outputs by name."""
    for value in session.get_outputs():
        _shape(value, onnx_file)
    failure = ""
    for length in _TRIAL_LENGTHS:
        zeros = {value.name: _zeros(value, onnx_file, rows, length) for value in session.get_inputs()}
        try:
            outputs = _run(session, zeros)
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            failure = failure or _first_line(str(error))
            continue
        for name, values in outputs.items():
            if values.ndim == 0 or values.shape[0] != rows:
                reason = f'output "{name}": expected {rows} rows for {rows} rows in, found shape {list(values.shape)}'
                raise BadSpec(str(onnx_file), reason)
        return zeros | outputs
    raise BadSpec(str(onnx_file), f"expected an answer to zeros, found: {failure}")


def _zeros(value: "NodeArg", onnx_file: Path, rows: int, length: int) -> npt.NDArray[Any]:
    axes = [length if axis == -1 else axis for axis in _shape(value, onnx_file)[1:]]
    return np.zeros((rows, *axes), DTYPES[_DATATYPES[value.type]])


def _run(session: "InferenceSession", inputs: Arrays) -> Arrays:
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _golden_inputs(session: "InferenceSession", onnx_file: Path, trial: Arrays) -> Arrays:
    """Seeded noise, or zeros where the model does not bear noise; nothing where it gives two answers to one question."""
    random = np.random.default_rng(0)
    zeros = {value.name: trial[value.name] for value in session.get_inputs()}
    for inputs in ({name: _noise(values, random) for name, values in zeros.items()}, zeros):
        try:
            once, twice = _run(session, inputs), _run(session, inputs)
        except Exception:  # noqa: S112  # out of the model's range: the next inputs are tried
            continue
        if not all(np.isfinite(values).all() for values in once.values()):
            continue
        return inputs if all(np.allclose(once[name], twice[name], atol=1e-6) for name in once) else {}
    return {}


def _noise(like: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[Any]:
    """Normal floats; 0 or 1 elsewhere, which is inside every vocabulary and a mask's whole range."""
    if like.dtype.kind == "f":
        return random.normal(size=like.shape).astype(like.dtype)
    return random.integers(0, 2, like.shape).astype(like.dtype)
