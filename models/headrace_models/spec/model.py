"""A model version as `model.toml` describes it."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from headrace_models.names import MODEL_NAME_PATTERN, VERSION_NAME_PATTERN
from headrace_models.spec.backends import BackendName
from headrace_models.spec.preprocess import AudioSpec, PreprocessSpec, RawSpec
from headrace_models.spec.running import Batching, ReplicaSpec, SequenceSpec, StateSpec
from headrace_models.spec.tensors import FileName, InputSpec, OutputSpec, StrictTable, TensorSpec

__all__ = ["ModelSpec"]


class ModelSpec(StrictTable):
    """A model version. `weights` maps a backend to its file; `files` maps a file to its SHA-256.

    `edition` is that of the zoo's recipe that made it; a build replaces any other edition.
    With `finite` a float input may hold neither NaN nor infinity.
    """

    name: Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
    version: Annotated[str, Field(pattern=VERSION_NAME_PATTERN)]
    family: Literal["cnn", "lstm", "transformer", "other"] = "other"
    task: Literal["classify", "embed", "none"] = "none"
    description: str = ""
    licence: str = ""
    source: str = ""
    edition: int = Field(default=1, ge=1)
    backend: BackendName = "onnx"
    weights: dict[BackendName, FileName]
    architecture: str | None = None
    golden: FileName
    golden_tolerance: float = Field(default=1e-4, ge=0, strict=False)
    finite: bool = False
    inputs: tuple[InputSpec, ...] = Field(min_length=1, strict=False)
    outputs: tuple[OutputSpec, ...] = Field(min_length=1, strict=False)
    preprocess: PreprocessSpec | None = None
    state: tuple[StateSpec, ...] = Field(default=(), strict=False)
    sequence: SequenceSpec = SequenceSpec()
    batching: Batching = Batching()
    replica: ReplicaSpec = ReplicaSpec()
    files: dict[FileName, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]

    @field_validator("batching", mode="after")
    @classmethod
    def _check_rows(cls, batching: Batching, info: ValidationInfo) -> Batching:
        # Not a check of the whole model: the error shall name this table's line.
        tensors: tuple[TensorSpec, ...] = (
            *info.data.get("inputs", ()),
            *info.data.get("outputs", ()),
        )
        without = next((t.name for t in tensors if not t.has_rows), None)
        if batching.rows == "independent" and without is not None:
            raise ValueError(
                f'rows: expected "none", as "{without}" has no rows (has_rows = false)'
            )
        return batching

    @model_validator(mode="after")
    def _check_references(self) -> "ModelSpec":
        if self.backend not in self.weights:
            raise ValueError(
                f'weights: no file for backend "{self.backend}", only for {sorted(self.weights)}'
            )
        if "torch" in self.weights and self.architecture is None:
            raise ValueError("architecture: expected a name, because weights.torch is given")
        listed = {
            self.golden,
            *self.weights.values(),
            *(o.labels for o in self.outputs if o.labels),
        }
        if self.raw is not None:
            listed.update(self.raw.named_files)
        for missing in sorted(listed - self.files.keys()):
            raise ValueError(f'files: no SHA-256 for "{missing}", which this file names')
        for pair in self.state:
            if pair.input not in self.input_names or pair.output not in self.output_names:
                raise ValueError(
                    f'state: "{pair.input}" -> "{pair.output}" names no input or no output'
                )
        return self

    @model_validator(mode="after")
    def _check_embedding(self) -> "ModelSpec":
        if self.task == "embed" and self.outputs[0].datatype == "BYTES":
            raise ValueError(
                "task: expected numbers of a model that embeds, "
                f'found BYTES for "{self.outputs[0].name}"'
            )
        return self

    @model_validator(mode="after")
    def _check_state(self) -> "ModelSpec":
        inputs, outputs = {i.name: i for i in self.inputs}, {o.name: o for o in self.outputs}
        for pair in self.state:
            taken, given = inputs[pair.input], outputs[pair.output]
            if (taken.datatype, taken.whole_shape) != (given.datatype, given.whole_shape):
                raise ValueError(
                    f'state: expected "{pair.output}" to be of the datatype and shape of '
                    f'"{pair.input}"'
                )
            if taken.datatype == "BYTES" or -1 in taken.shape:
                raise ValueError(
                    f'state: "{pair.input}": expected numbers in a fixed shape, to start from zeros'
                )
        return self

    @model_validator(mode="after")
    def _check_audio(self) -> "ModelSpec":
        audio = self.audio
        if audio is None:
            return self
        if self.required_inputs != (audio.output,) or not self.state:
            raise ValueError(
                f'preprocess: audio: expected a model of one input "{audio.output}" beside its '
                "state"
            )
        if audio.score not in self.output_names:
            raise ValueError(f'preprocess: audio: score: "{audio.score}" names no output')
        if audio.input in self.input_names:
            raise ValueError(
                f'preprocess: audio: input: "{audio.input}" is one of the model\'s own'
            )
        return self

    @property
    def is_batched(self) -> bool:
        """Requests may share a batch; if not, they run one at a time, each with its own shapes."""
        return self.batching.rows != "none" and all(
            t.has_rows for t in (*self.inputs, *self.outputs)
        )

    def unbatched(self) -> "ModelSpec":
        """The same model with its requests run one at a time."""
        return self.model_copy(
            update={"batching": self.batching.model_copy(update={"rows": "none"})}
        )

    def with_max_rows(self, max_rows: int) -> "ModelSpec":
        """The same model in smaller batches."""
        return self.model_copy(
            update={"batching": self.batching.model_copy(update={"max_rows": max_rows})}
        )

    def unpadded(self) -> "ModelSpec":
        """The same model, whose rows share a batch only where they are equally long."""
        return self.model_copy(
            update={"inputs": tuple(i.model_copy(update={"pad": None}) for i in self.inputs)}
        )

    @property
    def raw(self) -> RawSpec | None:
        """The photos or texts that a request may have instead of tensors."""
        return None if isinstance(self.preprocess, AudioSpec) else self.preprocess

    @property
    def audio(self) -> AudioSpec | None:
        """The way from a stream of audio to frames, if the model takes one."""
        return self.preprocess if isinstance(self.preprocess, AudioSpec) else None

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(i.name for i in self.inputs)

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """The inputs that a request must have: all but the states, which start from zeros."""
        states = {state.input for state in self.state}
        return tuple(name for name in self.input_names if name not in states)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.outputs)

    @property
    def classes(self) -> OutputSpec | None:
        """The output that `:classify` reads: the first one with labels."""
        return next((o for o in self.outputs if o.labels), None)
