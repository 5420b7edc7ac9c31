"""The counts of a replica since it loaded, as in OIP's statistics extension."""

from collections.abc import Sequence

import msgspec

__all__ = ["BatchStats", "Duration", "InferenceStats", "Statistics", "merge"]


class Duration(msgspec.Struct, frozen=True):
    """The number of times that something was done, and the nanoseconds it took in all."""

    count: int = 0
    ns: int = 0

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(self.count + other.count, self.ns + other.ns)


_NONE = Duration()


class InferenceStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of requests: one that ran as several batches counts once, with the time of them all.

    A request that failed counts in `fail` alone. `compute_input` is preprocessing and forming the
    batch, `compute_infer` the backend's run, and `compute_output` splitting the batch and packing.
    `cache_hit` and `cache_miss` stay 0, since answers are cached in the gateways.
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
    """Counts of the batches of `batch_size` rows."""

    batch_size: int
    compute_input: Duration = _NONE
    compute_infer: Duration = _NONE
    compute_output: Duration = _NONE


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """All counts of one version.

    `last_inference` is in milliseconds since 1970, 0 before the first one; `inference_count` counts
    the rows of requests that succeeded, and `execution_count` the batches that they ran in.
    """

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: InferenceStats = InferenceStats()
    batch_stats: tuple[BatchStats, ...] = ()


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Add up the counts of several replicas of one version."""
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
