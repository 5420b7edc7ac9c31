"""A repository of small versions, sound and broken."""

from dataclasses import dataclass
from pathlib import Path

from headrace_models.repository import sha256_of

__all__ = ["RepositoryFolder"]

_SPEC = """name = "{name}"
version = "{version}"
golden = "golden.npz"

[weights]
onnx = "model.onnx"

[[inputs]]
name = "x"
datatype = "FP32"
shape = [1]

[[outputs]]
name = "y"
datatype = "FP32"
shape = [1]

[files]
"model.onnx" = "{digest}"
"golden.npz" = "{digest}"
"""


@dataclass(frozen=True)
class RepositoryFolder:
    root: Path

    def add(self, name: str, version: str) -> Path:
        folder = self.root / name / version
        folder.mkdir(parents=True)
        for file in ("model.onnx", "golden.npz"):
            (folder / file).write_bytes(b"bytes")
        digest = sha256_of(folder / "model.onnx")
        (folder / "model.toml").write_text(_SPEC.format(name=name, version=version, digest=digest))
        return folder

    def add_broken(self, name: str, version: str) -> Path:
        """Add a version whose weights do not match its spec."""
        folder = self.add(name, version)
        (folder / "model.onnx").write_bytes(b"other")
        return folder
