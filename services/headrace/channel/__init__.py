"""The channel between a gateway and a replica: frames over a Unix socket on one node, over TCP between nodes."""

from headrace.channel.client import ReplicaClient, connect
from headrace.channel.server import Health, Service, serve
from headrace.channel.stream import Address

__all__ = ["Address", "Health", "ReplicaClient", "Service", "connect", "serve"]
