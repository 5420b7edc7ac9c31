"""Takes a user's own ONNX file into the repository: its spec is read from the file itself."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headrace_models.errors import BadSpec
from headrace_models.golden import difference
from headrace_models.onnx_run import runner
from headrace_models.repository import read_version, sha256_of, verify
from headrace_models.spec import DTYPES
from headrace_models.zoo.draft import ONNX_FILE, Draft, write_version

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

__all__ = ["add"]

_MAX_ROWS = 64
_REPEATS_WITHIN = 1e-6
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
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
_FLOATS = ("FP16", "FP32", "FP64", "BF16")
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
    if found.spec.files.get(ONNX_FILE) != expected:
        held = found.spec.files.get(ONNX_FILE, "none")
        reason = f"this version exists: expected SHA-256 {expected[:12]}… of {onnx_file}, found {held[:12]}…"
        raise BadSpec(str(folder), f"{reason}; choose another version")
    return folder


def _draft(onnx_file: Path, name: str, version: str, folder: Path) -> Draft:
    shutil.copyfile(onnx_file, folder / ONNX_FILE)
    # The copy is opened, not the file: weights that lie beside the file were left behind, and that must show here.
    candidate = _Candidate(_open(folder / ONNX_FILE, str(onnx_file)), str(onnx_file))
    rows = candidate.fixed_rows()
    zeros, outputs = candidate.answer_zeros(rows or _TRIAL_ROWS)
    batching = {"max_rows": rows, "fixed_rows": rows} if rows else {"max_rows": _MAX_ROWS}
    document: dict[str, object] = {
        "name": name,
        "version": version,
        "source": onnx_file.name,
        "backend": "onnx",
        "weights": {"onnx": ONNX_FILE},
        "inputs": candidate.describe_inputs(),
        "outputs": candidate.describe_outputs(outputs),
        "batching": batching,
    }
    return Draft(document, candidate.golden_inputs(zeros))


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
                f"expected a model that ONNX Runtime can open, found: {_first_line(error).replace(str(path), place)}"
            )
        raise BadSpec(place, reason) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


@dataclass(frozen=True)
class _Candidate:
    """An opened model that may or may not be fit to serve; every method raises BadSpec at `place` if it is not."""

    session: "InferenceSession"
    place: str

    def fixed_rows(self) -> int | None:
        """The batch size baked into the inputs' first axes; None where any size goes."""
        sizes: dict[str, int] = {}
        for value in self.session.get_inputs():
            shape = self._shape(value)
            if not shape:
                raise BadSpec(self.place, f'input "{value.name}": expected rows on a first axis, found a scalar')
            sizes[value.name] = shape[0]
        if len(set(sizes.values())) != 1:
            found = ", ".join(f"{name}: {'any' if size == -1 else size}" for name, size in sizes.items())
            raise BadSpec(
                self.place, f"expected inputs that agree on the first axis, the rows, found {found or 'none'}"
            )
        rows = next(iter(sizes.values()))
        return None if rows == -1 else rows

    def describe_inputs(self) -> list[dict[str, object]]:
        return [self._describe(value, self._shape(value)[1:]) for value in self.session.get_inputs()]

    def describe_outputs(self, outputs: Arrays) -> list[dict[str, object]]:
        """As the file declares them; where it declares no axes, as many variable ones as `outputs` show."""
        described = []
        for value in self.session.get_outputs():
            declared, axes = self._shape(value), outputs[value.name].ndim
            described.append(self._describe(value, declared[1:] if len(declared) == axes else [-1] * (axes - 1)))
        return described

    def answer_zeros(self, rows: int) -> tuple[Arrays, Arrays]:
        """Inputs of zeros and empty texts, which every model must bear, and the outputs."""
        failure = None
        for length in _TRIAL_LENGTHS:
            zeros = {value.name: self._zeros(value, rows, length) for value in self.session.get_inputs()}
            try:
                outputs = self._run(zeros)
            except Exception as error:  # ONNX Runtime's errors share no base but Exception
                failure = failure or error
                continue
            self._check_rows(outputs, rows)
            return zeros, outputs
        assert failure is not None
        raise BadSpec(self.place, f"expected an answer to zeros, found: {_first_line(failure)}")

    def golden_inputs(self, zeros: Arrays) -> Arrays:
        """Seeded noise, or zeros where the model does not bear noise."""
        random = np.random.default_rng(0)
        noise = {name: _noise(values, random) for name, values in zeros.items()}
        inputs = noise if self._bears(noise) else zeros
        once, twice = self._run(inputs), self._run(inputs)
        for name in once:
            if not _is_finite(once[name]):
                raise BadSpec(self.place, f'output "{name}": expected finite numbers for zeros, found others')
            if difference(once[name], twice[name], _REPEATS_WITHIN):
                raise BadSpec(self.place, f'output "{name}": expected the same answer twice, found two answers')
        return inputs

    def _bears(self, inputs: Arrays) -> bool:
        try:
            outputs = self._run(inputs)
        except Exception:  # noise may lie outside what the model takes, which is no fault of the model
            return False
        return all(map(_is_finite, outputs.values()))

    def _shape(self, value: "NodeArg") -> list[int]:
        """All axes, rows first; -1 where the file names a size or gives none."""
        if value.type not in _DATATYPES:
            reason = f'"{value.name}": expected a tensor of numbers, booleans or texts, found {value.type}'
            raise BadSpec(self.place, reason)
        return [axis if isinstance(axis, int) and axis > 0 else -1 for axis in value.shape]

    def _describe(self, value: "NodeArg", shape: list[int]) -> dict[str, object]:
        return {"name": value.name, "datatype": _DATATYPES[value.type], "shape": shape}

    def _zeros(self, value: "NodeArg", rows: int, length: int) -> npt.NDArray[Any]:
        axes = [length if axis == -1 else axis for axis in self._shape(value)[1:]]
        if value.type == "tensor(string)":
            return np.full((rows, *axes), b"", object)
        return np.zeros((rows, *axes), DTYPES[_DATATYPES[value.type]])

    def _run(self, inputs: Arrays) -> Arrays:
        return runner(self.session)(inputs)

    def _check_rows(self, outputs: Arrays, rows: int) -> None:
        for name, values in outputs.items():
            shape = list(np.shape(values))
            if not shape or shape[0] != rows:
                reason = f'output "{name}": expected {rows} rows for {rows} rows in, found shape {shape}'
                raise BadSpec(self.place, reason)


def _is_finite(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind == "O" or bool(np.isfinite(values).all())


def _noise(like: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[Any]:
    """Normal floats; the texts "0" and "1"; 0 or 1 elsewhere, which is inside every vocabulary and a mask's range."""
    if any(like.dtype == DTYPES[name] for name in _FLOATS):
        return random.normal(size=like.shape).astype(like.dtype)
    numbers = random.integers(0, 2, like.shape)
    return numbers.astype(np.bytes_).astype(object) if like.dtype.kind == "O" else numbers.astype(like.dtype)
