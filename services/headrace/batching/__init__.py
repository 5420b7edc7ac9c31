"""Batches out of single requests: asyncio only, no HTTP, no Ray, no numpy."""

from headrace.batching.batcher import Batcher
from headrace.batching.cost import Cost, CostModel, size_of
from headrace.batching.policy import Limits
from headrace.batching.queue import Result

__all__ = ["Batcher", "Cost", "CostModel", "Limits", "Result", "size_of"]
