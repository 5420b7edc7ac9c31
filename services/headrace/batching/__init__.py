"""Batches out of single requests: asyncio only, no HTTP, no Ray, no numpy."""

from headrace.batching.batcher import Batcher, Settled
from headrace.batching.policy import Limits

__all__ = ["Batcher", "Limits", "Settled"]
