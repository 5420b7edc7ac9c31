"""A model version on its way to disk: made in a hidden folder, described, checked, then renamed."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tomli_w

from headrace_models.errors import translated_os_errors
from headrace_models.golden import save_golden
from headrace_models.onnx_run import runner
from headrace_models.repository import SPEC_FILE, read_version, sha256_of, verify

__all__ = ["GOLDEN_FILE", "ONNX_FILE", "Arrays", "Draft", "to_toml", "write_version"]

GOLDEN_FILE = "golden.npz"
ONNX_FILE = "model.onnx"

Arrays = Mapping[str, npt.NDArray[Any]]

# A list of plain values, as tomli-w writes it: one a line. No string holds a line break as it is.
_LIST = re.compile(r"\[\n((?: +[^\s\[\]{}][^\n\[\]{}]*,\n)+) *\]")
# tomli-w writes a table of a list inline if it fits into a line of 100 characters, indented by
# this. None does, so that each key has a line of its own, which refusals name.
_INDENT = 100


@dataclass(frozen=True)
class Draft:
    """A version's files and its description to be.

    `document` is the `model.toml` without `golden` and `files`. The files themselves lie in the
    folder already, ONNX_FILE among them. `golden_inputs` hold [n, *shape] by input name;
    `write_version` adds the answers of the ONNX weights to them, by `outputs` or all of them.
    """

    document: dict[str, object]
    golden_inputs: Arrays
    outputs: Sequence[str] = ()


def write_version(root: Path, name: str, version: str, make: Callable[[Path], Draft]) -> Path:
    """Let `make` fill a folder, describe it, check it as a server would, and move it into place.

    The place is `root/name/version`. Readers see the old version or the new one, never half of it.
    Raises BadSpec if the result cannot be served, and ModelError if it cannot be written; then the
    repository is as it was.
    """
    with translated_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        # A dot hides it from the repository's readers; below `root` the rename stays on one file
        # system.
        with tempfile.TemporaryDirectory(dir=root, prefix=".making-") as making:
            folder = Path(making) / name / version
            folder.mkdir(parents=True)
            _describe(folder, make(folder))
            verify(read_version(folder))
            target = root / name / version
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                target.rename(Path(making) / "replaced")
            folder.rename(target)
    return target


def _describe(folder: Path, draft: Draft) -> None:
    outputs = _answers(folder / ONNX_FILE, draft.golden_inputs, draft.outputs)
    save_golden(folder / GOLDEN_FILE, draft.golden_inputs, outputs)
    for path in folder.iterdir():
        # safetensors writes for its owner only, but a server may run as another user.
        path.chmod(0o644)
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    document = {**draft.document, "golden": GOLDEN_FILE, "files": files}
    (folder / SPEC_FILE).write_text(to_toml(document), encoding="utf-8")


def _answers(
    onnx_file: Path, inputs: Arrays, outputs: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """The `outputs` of the ONNX file, or all of them, by name."""
    # Not above: who only makes drafts needs no runtime.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(onnx_file), options, providers=["CPUExecutionProvider"]
    )
    return runner(session, outputs)(inputs)


def to_toml(document: Mapping[str, object]) -> str:
    """A `model.toml`, with lists of plain values on one line, as people write shapes."""

    def on_one_line(found: re.Match[str]) -> str:
        values = [line.strip().removesuffix(",") for line in found[1].splitlines()]
        return f"[{', '.join(values)}]"

    return _LIST.sub(on_one_line, tomli_w.dumps(document, indent=_INDENT))
