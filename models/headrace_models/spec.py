"""`model.toml`, typed: what a model version takes, gives, and how it likes to be run."""

from collections.abc import Mapping
from typing import Annotated, Literal

import ml_dtypes
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

__all__ = [
    "DTYPES",
    "FILE_NAME",
    "Activation",
    "AudioRate",
    "AudioSpec",
    "Batching",
    "CharactersSpec",
    "Datatype",
    "ImageSpec",
    "InputSpec",
    "ModelSpec",
    "Name",
    "Objective",
    "OutputSpec",
    "PreprocessSpec",
    "RawSpec",
    "ReplicaSpec",
    "SequenceSpec",
    "StateSpec",
    "TextSpec",
]

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]
Activation = Literal["none", "softmax"]

# Open Inference Protocol datatype -> little-endian numpy dtype. BYTES has no fixed width. BF16 is none of numpy's own:
# its kind is "V", as a structure's is.
DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
TensorName = Annotated[str, Field(min_length=1, max_length=256)]
# One of the version's own folder, which is not hidden.
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._ ()+-]{0,127}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Axis = Annotated[int, Field(ge=-1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Tensor(_Frozen):
    """`shape` leaves out the leading row axis; of a tensor that `has_rows` says has none, it has all axes."""

    name: TensorName
    datatype: Datatype
    shape: tuple[Axis, ...] = Field(strict=False)
    has_rows: bool = True

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """All axes, that of the rows among them; -1 is one of any length."""
        return (-1, *self.shape) if self.has_rows else self.shape


class InputSpec(_Tensor):
    """One input; an axis of -1 in `shape` is one of variable length, at most `max_length`.

    `pad` is the value that fills shorter rows up to the longest of a batch; without it only rows of equal shape
    share a batch. `lengths`, when given, are the only lengths that a variable axis may have. Integers may be held to
    `minimum`..`maximum`, both included: what looks something up must not be asked for what is not there.
    """

    max_length: int | None = Field(default=None, ge=1)
    lengths: tuple[int, ...] = Field(default=(), strict=False)
    pad: float | None = None
    minimum: int | None = None
    maximum: int | None = None

    @model_validator(mode="after")
    def _has_a_range(self) -> "InputSpec":
        if self.minimum is None and self.maximum is None:
            return self
        if DTYPES.get(self.datatype, np.dtype("O")).kind not in "iu":
            raise ValueError(
                f"minimum, maximum: expected an input of integers, found {self.datatype}"
            )
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"minimum: expected at most maximum={self.maximum}, found {self.minimum}"
            )
        return self


class OutputSpec(_Tensor):
    """One output. `labels` names a text file, one class a line; `activation` turns it into scores for `:classify`.

    An axis of -1 that comes out as long as a padded input went in is cut back to the length of each request's own.
    """

    labels: FileName | None = None
    activation: Activation = "none"

    @model_validator(mode="after")
    def _has_classes(self) -> "OutputSpec":
        if self.labels and self.datatype == "BYTES":
            raise ValueError("labels: expected an output of numbers, found BYTES")
        return self


class ImageSpec(_Frozen):
    """Photo bytes (JPEG, PNG, WebP) -> `output` FP32 [1, 3, size, size]: centre square of side `short * crop`, bicubic.

    Each channel becomes `(value - mean) / scale`, value in 0..255. A photo of more than `max_pixels`, of a side beyond
    8,192 or of more than 48 MiB decoded is refused from its header, before it is decoded.
    """

    kind: Literal["image"]
    input: TensorName = "photo"
    output: TensorName
    size: int = Field(ge=1, le=4096)
    crop: float = Field(gt=0, le=1)
    mean: float
    scale: float = Field(gt=0)
    max_pixels: int = Field(default=16_000_000, ge=1)


class TextSpec(_Frozen):
    """UTF-8 text -> `ids` and `mask` INT64 [1, tokens]; longer than `max_chars` is refused.

    Of more than `max_tokens` the end is cut off, and callers are told of which texts; with `truncate = "error"` it is
    refused.
    """

    kind: Literal["text"]
    input: TensorName = "text"
    tokenizer: FileName
    ids: TensorName = "input_ids"
    mask: TensorName = "attention_mask"
    max_tokens: int = Field(ge=1, le=8192)
    truncate: Literal["end", "error"] = "end"
    max_chars: int = Field(default=32_000, ge=1)


class CharactersSpec(_Frozen):
    """Lower-cased text -> `output` INT64 [1, characters]: the place of each character in `alphabet`, else `unknown`."""

    kind: Literal["characters"]
    input: TensorName = "text"
    output: TensorName
    alphabet: str = Field(min_length=1)
    max_chars: int = Field(ge=1)
    unknown: int = Field(default=0, ge=0)


class AudioRate(_Frozen):
    """Samples a second, and of a frame: those it repeats of the one before, and its own."""

    rate_hz: int = Field(ge=1)
    context: int = Field(ge=0)
    hop: int = Field(ge=1)


class AudioSpec(_Frozen):
    """A stream of 16-bit mono PCM -> `output` FP32 [1, context + hop], one frame after the other.

    `score` is the output that says how likely a frame is speech. The first of `rates` is that of who names none.
    `input` is what a chunk is called on its way to a replica; an infer request has no such input.
    """

    kind: Literal["audio"]
    input: TensorName = "pcm"
    output: TensorName
    score: TensorName
    rates: tuple[AudioRate, ...] = Field(min_length=1, strict=False)


# What makes one element of a request into tensors, and, with a stream's, all of them.
RawSpec = ImageSpec | TextSpec | CharactersSpec
PreprocessSpec = Annotated[RawSpec | AudioSpec, Field(discriminator="kind")]


class StateSpec(_Frozen):
    """A recurrent state: `input` takes it, `output` gives the next one. A request without it starts from zeros."""

    input: TensorName
    output: TensorName


class SequenceSpec(_Frozen):
    """Sequences, whose state a replica keeps: at most `max_open` of one key; idle ones end after `max_idle_s`."""

    max_open: int = Field(default=100, ge=1)
    max_idle_s: float = Field(default=60.0, gt=0, strict=False, allow_inf_nan=False)


class Batching(_Frozen):
    """`max_rows` a batch, `max_waiting_rows` in line.

    `rows` says whether requests may share a batch: they may if a row's answer is "independent" of the rows beside it;
    with "none" requests run one at a time, as they came. Without it that is found out whenever the model is loaded:
    rows are independent if beside others they answer within `tolerance`, relative to the size of the output.

    `cost` says what a batch's time depends on: its "cells", rows x padded length, or its "rows" alone. With `buckets`
    padded axes get one of these lengths, the next larger one; without, that of the longest row in the batch.

    A batch that runs for `max_run_s` is stopped: seconds of its thread's CPU time. Without, that is 1.5 s or ten times
    what such a batch takes, whichever is more: too short for a model whose work depends on what is in its inputs.
    """

    max_rows: int = Field(default=32, ge=1)
    max_waiting_rows: int = Field(default=1024, ge=1)
    rows: Literal["independent", "none"] | None = None
    tolerance: float = Field(default=1e-5, ge=0, strict=False, allow_inf_nan=False)
    cost: Literal["cells", "rows"] = "cells"
    buckets: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), strict=False)
    max_run_s: float | None = Field(default=None, gt=0, strict=False, allow_inf_nan=False)

    @model_validator(mode="after")
    def _holds_a_batch(self) -> "Batching":
        if self.max_waiting_rows < self.max_rows:
            raise ValueError(
                f"max_waiting_rows: expected at least max_rows={self.max_rows}, so that a batch can wait"
            )
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets: expected growing lengths, found {list(self.buckets)}")
        return self


class ReplicaSpec(_Frozen):
    """How many processes, and the cores and GPUs of each; `cpus` is also the number of threads one batch may use."""

    count: int = Field(default=1, ge=1, le=1000)
    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0, strict=False)


class Objective(_Frozen):
    """What users are promised: the 99th percentile of the whole request, in milliseconds."""

    p99_ms: float = Field(gt=0, strict=False)


class ModelSpec(_Frozen):
    """One model version. `weights` maps a backend ("onnx", "torch") to its file; `files` maps a file to its SHA-256.

    `recipe` counts the editions of what the zoo makes under this version; a build replaces another edition. With
    `finite` a float input may hold neither NaN nor infinity.
    """

    name: Name
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
    family: Literal["cnn", "lstm", "transformer", "other"] = "other"
    task: Literal["classify", "embed", "none"] = "none"
    description: str = ""
    licence: str = ""
    source: str = ""
    recipe: int = Field(default=1, ge=1)
    backend: Literal["onnx", "torch"] = "onnx"
    weights: dict[Literal["onnx", "torch"], FileName]
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
    objective: Objective | None = None
    files: dict[FileName, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]

    @field_validator("batching", mode="after")
    @classmethod
    def _has_rows_to_batch(cls, batching: Batching, info: ValidationInfo) -> Batching:
        # Here, not in a check of the whole: so the error has this table's line.
        tensors: tuple[_Tensor, ...] = (*info.data.get("inputs", ()), *info.data.get("outputs", ()))
        without = next((t.name for t in tensors if not t.has_rows), None)
        if batching.rows == "independent" and without is not None:
            raise ValueError(
                f'rows: expected "none", as "{without}" has no rows (has_rows = false)'
            )
        return batching

    @model_validator(mode="after")
    def _hangs_together(self) -> "ModelSpec":
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
        listed |= {self.preprocess.tokenizer} if isinstance(self.preprocess, TextSpec) else set()
        for missing in sorted(listed - self.files.keys()):
            raise ValueError(f'files: no SHA-256 for "{missing}", which this file names')
        for pair in self.state:
            if pair.input not in self.input_names or pair.output not in self.output_names:
                raise ValueError(
                    f'state: "{pair.input}" -> "{pair.output}" names no input or no output'
                )
        return self

    @model_validator(mode="after")
    def _embeds(self) -> "ModelSpec":
        if self.task == "embed" and self.outputs[0].datatype == "BYTES":
            raise ValueError(
                f'task: expected numbers of a model that embeds, found BYTES for "{self.outputs[0].name}"'
            )
        return self

    @model_validator(mode="after")
    def _keeps_its_state(self) -> "ModelSpec":
        inputs, outputs = {i.name: i for i in self.inputs}, {o.name: o for o in self.outputs}
        for pair in self.state:
            taken, given = inputs[pair.input], outputs[pair.output]
            if (taken.datatype, taken.whole_shape) != (given.datatype, given.whole_shape):
                raise ValueError(
                    f'state: expected "{pair.output}" to be of the datatype and shape of "{pair.input}"'
                )
            if taken.datatype == "BYTES" or -1 in taken.shape:
                raise ValueError(
                    f'state: "{pair.input}": expected numbers in a fixed shape, to start from zeros'
                )
        return self

    @model_validator(mode="after")
    def _hears(self) -> "ModelSpec":
        audio = self.audio
        if audio is None:
            return self
        if self.required_inputs != (audio.output,) or not self.state:
            raise ValueError(
                f'preprocess: audio: expected a model of one input "{audio.output}" beside its state'
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
        """Whether requests may share a batch; if not, they run one at a time, each with its own shapes."""
        return self.batching.rows != "none" and all(
            t.has_rows for t in (*self.inputs, *self.outputs)
        )

    def unbatched(self) -> "ModelSpec":
        """The same model, its requests run one at a time."""
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
        """What a request may give in the place of tensors: photos or texts."""
        return None if isinstance(self.preprocess, AudioSpec) else self.preprocess

    @property
    def audio(self) -> AudioSpec | None:
        """How a stream of audio becomes frames, if the model takes one."""
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
