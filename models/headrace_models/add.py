"""Adds a user's ONNX file to the repository: its spec is read from the file itself."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_models.candidate import Candidate
from headrace_models.description import describe_inputs, describe_outputs
from headrace_models.errors import BadSpec, translated_os_errors
from headrace_models.names import is_model_name, is_version_name
from headrace_models.onnx_graph import read_graph, shapeless_inputs, weight_files
from headrace_models.precision import rows_tolerance
from headrace_models.publishing import GOLDEN_FILE, ONNX_FILE, Draft, write_version
from headrace_models.reasons import sentence
from headrace_models.repository import SPEC_FILE, read_version, sha256_of, verify
from headrace_models.spec import FILE_NAME, Batching
from headrace_models.trials import DATATYPES, is_setting

if TYPE_CHECKING:
    from onnx import GraphProto
    from onnxruntime import InferenceSession, NodeArg

__all__ = ["add"]

_MAX_ROWS = 64
# The remedy for weights that cannot be copied; torch.onnx.export has this option.
_INSIDE = "export it with external_data=False"
_OURS = (ONNX_FILE, GOLDEN_FILE, SPEC_FILE)


def _silent(_: str) -> None:
    """Ignores what it is told."""


@dataclass(frozen=True)
class _Given:
    """A user's file, its graph if that can be read, and the files to copy by their new names."""

    file: Path
    graph: "GraphProto | None"
    files: dict[str, Path]

    @property
    def where(self) -> str:
        return str(self.file)


def add(
    onnx_file: Path,
    name: str,
    root: Path,
    version: str = "1",
    tell: Callable[[str], None] = _silent,
    outputs: Sequence[str] = (),
) -> Path:
    """Copy `onnx_file` to `root/name/version`, with a spec made from it; returns that folder.

    Weights in other files of its folder are copied too. `outputs` are served, or all of them.
    Requests share batches if the model's rows are shown to be independent; otherwise they are
    served one at a time, and `tell` gets the reason in a sentence. The same file may be added
    again; another file under an existing version is refused. Raises BadSpec if the file cannot be
    served, ModelError if it cannot be read or the repository cannot be written.
    """
    for what, value, is_fit in (
        ("name", name, is_model_name(name)),
        ("version", version, is_version_name(version)),
    ):
        if not is_fit:
            raise BadSpec(
                str(onnx_file),
                f'{what}: expected letters, digits, ".", "_" or "-", found "{value}"',
            )
    folder = root / name / version
    with translated_os_errors(root):
        if not onnx_file.is_file():
            raise BadSpec(str(onnx_file), "expected an ONNX file, found none")
        given = _read(onnx_file)
        if folder.exists():
            return _already_there(folder, given, outputs)
    return write_version(
        root, name, version, lambda making: _draft(given, name, version, making, tell, outputs)
    )


def _read(onnx_file: Path) -> _Given:
    graph = read_graph(onnx_file)
    beside = {name: _beside(onnx_file, name) for name in weight_files(graph)} if graph else {}
    return _Given(onnx_file, graph, {ONNX_FILE: onnx_file, **beside})


def _beside(onnx_file: Path, name: str) -> Path:
    """A file of weights that the ONNX file names, in its folder or in that of its link's target."""
    expected = "expected weights inside or in a file beside it"
    if name in _OURS or not re.fullmatch(FILE_NAME, name):
        called = f'of letters, digits, spaces and "._()+-" and not called {" or ".join(_OURS)}'
        raise BadSpec(str(onnx_file), f'{expected}, {called}, found them in "{name}"; {_INSIDE}')
    folders = onnx_file.parent.resolve(), onnx_file.resolve().parent
    file = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if file is None:
        raise BadSpec(
            str(onnx_file),
            f'expected its weights in "{name}" beside it, found no such file; {_INSIDE}',
        )
    if file.resolve().parent not in folders:
        raise BadSpec(
            str(onnx_file), f'{expected}, found "{name}" to be a link to another folder; {_INSIDE}'
        )
    return file


def _already_there(folder: Path, given: _Given, outputs: Sequence[str]) -> Path:
    found = read_version(folder)
    verify(found)
    for name, file in given.files.items():
        expected, held = sha256_of(file), found.spec.files.get(name, "none")
        if held != expected:
            reason = f"expected SHA-256 {expected[:12]}… of {file}, found {held[:12]}…"
            raise BadSpec(str(folder), f"this version exists: {reason}; choose another version")
    if outputs and set(outputs) != set(found.spec.output_names):
        reason = f"expected the outputs {list(outputs)}, found {list(found.spec.output_names)}"
        raise BadSpec(str(folder), f"this version exists: {reason}; choose another version")
    return folder


def _draft(
    given: _Given,
    name: str,
    version: str,
    folder: Path,
    tell: Callable[[str], None],
    wanted: Sequence[str],
) -> Draft:
    for held, file in given.files.items():
        shutil.copyfile(file, folder / held)
    # The copy is opened, not the original, so that missing weights show here.
    session = _open(folder / ONNX_FILE, given.where)
    outputs = _outputs(session, wanted, given.where)
    _check_inputs(session, given)
    _check_types(session, outputs, given.where)
    candidate = Candidate(session, outputs, given.where)
    found = candidate.find()
    document: dict[str, object] = {
        "name": name,
        "version": version,
        "source": given.file.name,
        "backend": "onnx",
        "weights": {"onnx": ONNX_FILE},
        "inputs": describe_inputs(candidate, found),
        "outputs": describe_outputs(candidate, found),
    }
    tolerance = rows_tolerance(given.graph)
    batching: dict[str, object] = {"max_rows": _MAX_ROWS}
    if tolerance != Batching().tolerance:
        batching["tolerance"] = tolerance
    if reason := candidate.why_unbatched(found, tolerance, tell):
        tell(f"{reason}; served one request at a time")
        batching["rows"] = "none"
    if hint := _hint(candidate.inputs):
        tell(hint)
    return Draft(
        {**document, "batching": batching},
        candidate.golden_inputs(found),
        [o.name for o in outputs],
    )


def _outputs(session: "InferenceSession", wanted: Sequence[str], where: str) -> "list[NodeArg]":
    outputs = {value.name: value for value in session.get_outputs()}
    for name in wanted:
        if name not in outputs:
            raise BadSpec(where, f'outputs: expected some of {list(outputs)}, found "{name}"')
    return [value for name, value in outputs.items() if not wanted or name in wanted]


def _hint(inputs: "Sequence[NodeArg]") -> str:
    """A hint to bound integers: only the user knows which ones the model can look up."""
    names = [
        v.name for v in inputs if DATATYPES[v.type] in ("INT32", "INT64") and not is_setting(v)
    ]
    if not names:
        return ""
    listed = ", ".join(f'"{name}"' for name in names)
    return (
        f"if the model looks up {listed} in a table, set `maximum`, "
        f"and `max_length` for positions, in its {SPEC_FILE}"
    )


def _open(path: Path, where: str) -> "InferenceSession":
    # Not above: importing this module must not need a runtime.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a trial that fails raises
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        reason = f"expected a model that ONNX Runtime can open, found: {sentence(str(error))}"
        raise BadSpec(
            where, f"{reason}; {_INSIDE}" if "external data" in reason.lower() else reason
        ) from None


def _check_inputs(session: "InferenceSession", given: _Given) -> None:
    if not session.get_inputs():
        raise BadSpec(given.where, "expected inputs, found none")
    if given.graph and (shapeless := shapeless_inputs(given.graph)):
        reason = "expected a shape, but the file does not say how many axes it has"
        raise BadSpec(given.where, f'input "{shapeless[0]}": {reason}')


def _check_types(session: "InferenceSession", outputs: "Sequence[NodeArg]", where: str) -> None:
    for side, values in (("input", session.get_inputs()), ("output", outputs)):
        for value in values:
            if value.type not in DATATYPES:
                raise BadSpec(where, f'{side} "{value.name}": {_unfit(value.type)}')


def _unfit(kind: str) -> str:
    expected = f"expected a tensor of numbers, booleans or texts, found {kind}"
    if kind.startswith("seq(map"):
        return f'{expected}; convert the model with options={{"zipmap": False}}'
    return expected
