"""The channel between a gateway and a replica: frames over a Unix socket or TCP."""

from headrace.channel.client import ReplicaClient
from headrace.channel.connecting import connect, has_ended
from headrace.channel.frame_stream import Address
from headrace.channel.listening import serve
from headrace.channel.service import Health, Service
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
