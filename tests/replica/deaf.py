"""A replica process whose backend cannot be stopped: python -m tests.replica.deaf VERSION SOCKET.

It says by a line that it serves.
"""

import asyncio
import sys
from collections.abc import Mapping

import uvloop
from tests.channel.replicas import TOKEN

from headrace import backends
from headrace.inference.tensor import Array
from headrace.replica.program import ReplicaConfig, ReplicaHandle, serve_replica
from headrace_models.repository import ModelVersion


class Deaf:
    """The real one, without what stops it."""

    device = "cpu"
    lanes = 1

    def __init__(self, version: ModelVersion, name: str) -> None:
        self._real = backends.load(version, name)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._real.run(inputs)


def _ready(_: ReplicaHandle) -> None:
    sys.stdout.write("listening\n")
    sys.stdout.flush()


async def main(folder: str, unix: str) -> None:
    order = ReplicaConfig(folder, "onnx", "here", "127.0.0.1", unix, TOKEN)
    await serve_replica(order, _ready, asyncio.Event(), load=Deaf)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
