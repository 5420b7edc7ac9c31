"""The channel between a gateway and a replica: frames over a Unix socket on one node, over TCP between nodes."""

from headrace.channel.client import ReplicaClient, connect, has_ended
from headrace.channel.frame_stream import Address
from headrace.channel.server import Health, Service, serve
from headrace.inference.handover import SequenceKey, SequenceSnapshot, home_of, sequence_name

__all__ = [
    "Address",
    "Health",
    "ReplicaClient",
    "SequenceKey",
    "SequenceSnapshot",
    "Service",
    "connect",
    "has_ended",
    "home_of",
    "sequence_name",
    "serve",
]
