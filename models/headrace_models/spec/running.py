"""The running of a model: its batches, its state, its processes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headrace_models.spec.tensors import StrictTable, TensorName

__all__ = ["Batching", "ReplicaSpec", "SequenceSpec", "StateSpec"]


class StateSpec(StrictTable):
    """A recurrent state: `input` takes it, `output` gives the next one. It begins as zeros."""

    input: TensorName
    output: TensorName


class SequenceSpec(StrictTable):
    """Sequences: a key may have `max_open` open ones; idle ones end after `max_idle_s`."""

    max_open: int = Field(default=100, ge=1)
    max_idle_s: float = Field(default=60.0, gt=0, strict=False, allow_inf_nan=False)


class Batching(StrictTable):
    """The bounds of batches: at most `max_rows` run together, and `max_waiting_rows` wait.

    `rows` says whether requests may share a batch. They may if a row's answer is "independent" of
    the rows beside it; with "none" requests run one at a time, in order. Without `rows`
    each load compares rows alone and batched: they are independent if the answers differ by at most
    `tolerance`, relative to the size of the output.

    `cost` says what a batch's time depends on: its "cells", rows x padded length, or its "rows"
    alone. With `buckets` a padded axis gets the next larger of these lengths; without, that of the
    longest row in the batch.

    A batch that runs for `max_run_s`, in seconds of its thread's CPU time, is stopped. Without,
    that is 1.5 s or ten times what such a batch takes, whichever is more: too short for a model
    whose work depends on the values of its inputs.
    """

    max_rows: int = Field(default=32, ge=1)
    max_waiting_rows: int = Field(default=1024, ge=1)
    rows: Literal["independent", "none"] | None = None
    tolerance: float = Field(default=1e-5, ge=0, strict=False, allow_inf_nan=False)
    cost: Literal["cells", "rows"] = "cells"
    buckets: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), strict=False)
    max_run_s: float | None = Field(default=None, gt=0, strict=False, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_room_and_buckets(self) -> "Batching":
        if self.max_waiting_rows < self.max_rows:
            raise ValueError(
                f"max_waiting_rows: expected at least max_rows={self.max_rows}, "
                "so that a batch can wait"
            )
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets: expected growing lengths, found {list(self.buckets)}")
        return self


class ReplicaSpec(StrictTable):
    """The number of processes, and the cores and GPUs of each; a batch may use `cpus` threads."""

    count: int = Field(default=1, ge=1, le=1000)
    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0, strict=False)
