"""A model version on its way to disk: files made in a hidden folder, described, checked, then renamed into place."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from headrace_models.errors import told_in_a_sentence
from headrace_models.golden import save_golden
from headrace_models.onnx_run import runner
from headrace_models.repository import SPEC_FILE, read_version, sha256_of, verify
from headrace_models.toml_text import to_toml

__all__ = ["GOLDEN_FILE", "ONNX_FILE", "Arrays", "Draft", "answers", "write_version"]

GOLDEN_FILE = "golden.npz"
ONNX_FILE = "model.onnx"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Draft:
    """`document` is the `model.toml` to be, without `golden` and `files`.

    The files themselves lie in the folder already, ONNX_FILE among them. `golden_inputs` hold [n, *shape] by input
    name; `write_version` adds what the ONNX weights answer to them, by `outputs` or all of them.
    """

    document: dict[str, object]
    golden_inputs: Arrays
    outputs: Sequence[str] = ()


def write_version(root: Path, name: str, version: str, make: Callable[[Path], Draft]) -> Path:
    """Let `make` fill a folder, then describe it, check it as a server would, and move it to `root/name/version`.

    Readers see the old version or the new one, never half of it. Raises BadSpec if what was made cannot be served, and
    ModelError if it cannot be written; the repository is as it was then.
    """
    with told_in_a_sentence(root):
        root.mkdir(parents=True, exist_ok=True)
        # A dot keeps the repository's readers away; below `root`, so that the rename stays on one file system.
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
    document = dict(draft.document)
    golden = answers(folder / ONNX_FILE, draft.golden_inputs, draft.outputs)
    save_golden(folder / GOLDEN_FILE, draft.golden_inputs, golden)
    document["golden"] = GOLDEN_FILE
    for path in folder.iterdir():
        # safetensors writes for its owner only, but a server may run as another user.
        path.chmod(0o644)
    document["files"] = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    (folder / SPEC_FILE).write_text(to_toml(document), encoding="utf-8")


def answers(
    onnx_file: Path, inputs: Arrays, outputs: Sequence[str] = ()
) -> dict[str, npt.NDArray[Any]]:
    """The `outputs`, or all of them, by name, that the ONNX file gives to `inputs`."""
    # Here, not above: whoever only reads drafts needs no runtime.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(onnx_file), options, providers=["CPUExecutionProvider"]
    )
    return runner(session, outputs)(inputs)
