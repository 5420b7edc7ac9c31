"""What a replica counted since it loaded, in the shape of the Open Inference Protocol's statistics extension."""

from collections.abc import Sequence

import msgspec

__all__ = ["BatchStats", "Duration", "InferenceStats", "Statistics", "merge"]


class Duration(msgspec.Struct, frozen=True):
    """How often something was done, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(self.count + other.count, self.ns + other.ns)


_NONE = Duration()


class InferenceStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of requests: one that ran as several batches counts once, with the time of them all.

    A request that failed counts in `fail` alone. `compute_input` is preprocessing and putting the batch together,
    `compute_infer` the backend's run, `compute_output` taking the batch apart and packing. Nothing is cached yet.
    """

    success: Duration = _NONE
    fail: Duration = _NONE
    queue: Duration = _NONE
    compute_input: Duration = _NONE
    compute_infer: Duration = _NONE
    compute_output: Duration = _NONE
    cache_hit: Duration = _NONE
    cache_miss: Duration = _NONE


class BatchStats(msgspec.Struct, frozen=True, kw_only=True):
    """All batches of `batch_size` rows; counts are of batches."""

    batch_size: int
    compute_input: Duration = _NONE
    compute_infer: Duration = _NONE
    compute_output: Duration = _NONE


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """`last_inference` is in milliseconds since 1970, 0 before the first; `inference_count` is the rows of requests
    that succeeded, `execution_count` the batches that they ran in.
    """

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: InferenceStats = InferenceStats()
    batch_stats: tuple[BatchStats, ...] = ()


def merge(parts: Sequence[Statistics]) -> Statistics:
    """What several replicas of one version did together."""
    by_size: dict[int, BatchStats] = {}
    for stats in (stats for part in parts for stats in part.batch_stats):
        known = by_size.get(stats.batch_size, BatchStats(batch_size=stats.batch_size))
        sums = {
            name: getattr(known, name) + getattr(stats, name)
            for name in BatchStats.__struct_fields__[1:]
        }
        by_size[stats.batch_size] = BatchStats(batch_size=stats.batch_size, **sums)
    names = InferenceStats.__struct_fields__
    return Statistics(
        last_inference=max((p.last_inference for p in parts), default=0),
        inference_count=sum(p.inference_count for p in parts),
        execution_count=sum(p.execution_count for p in parts),
        inference_stats=InferenceStats(
            **{n: sum((getattr(p.inference_stats, n) for p in parts), _NONE) for n in names}
        ),
        batch_stats=tuple(by_size[size] for size in sorted(by_size)),
    )
