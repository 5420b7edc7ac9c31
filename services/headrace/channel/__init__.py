"""The channel between a gateway and a replica: frames over a Unix socket or TCP."""

from headrace.channel.client import ReplicaClient
from headrace.channel.connecting import connect, has_ended
from headrace.channel.frame_stream import Address
from headrace.channel.listening import serve
from headrace.channel.service import Health, Service

__all__ = [
    "Address",
    "Health",
    "ReplicaClient",
    "Service",
    "connect",
    "has_ended",
    "serve",
]
