"""Other people's ONNX files: `python -m loadtests.own_models FOLDER` adds each and asks it for many
callers at once.

Every answer is compared with that of the file to the same request alone. A line for each file: how
it is served or why it is refused, answers that differ, and the seconds that adding took. Exit 1 if
an answer is wrong. No HTTP, no Ray: a host in this process.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from headrace import backends
from headrace.inference.request import Request
from headrace.inference.tensor import Array, from_array, to_array
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.add import add
from headrace_models.errors import BadSpec
from headrace_models.golden import read_golden
from headrace_models.independence import answers_alike
from headrace_models.repository import ModelVersion, read_version
from headrace_models.spec import ModelSpec

_AT_ONCE, _MOST_ROWS = 24, 3
_TIMEOUT_S = 120.0

Arrays = Mapping[str, Array]


class Outcome(NamedTuple):
    """The result for one file: the number of wrong answers, None if the file was refused."""

    served: str
    wrong: int | None
    add_s: float


def requests_of(spec: ModelSpec, golden: Arrays, seed: int) -> list[Arrays]:
    """Golden rows in other orders and numbers, or the golden inputs if there are no rows."""
    random = np.random.default_rng(seed)

    def one() -> Arrays:
        rows = random.integers(
            0, min(len(a) for a in golden.values()), random.integers(1, _MOST_ROWS + 1)
        )
        factor = random.choice((0.5, 1, 20))
        chosen = (
            {name: a[rows] for name, a in golden.items()}
            if all(i.has_rows for i in spec.inputs)
            else golden
        )
        return {
            n: (a * factor).astype(a.dtype) if a.dtype.kind == "f" else a for n, a in chosen.items()
        }

    return (
        [one() for _ in range(_AT_ONCE)]
        if all(a.ndim for a in golden.values())
        else [golden] * _AT_ONCE
    )


async def wrong_of(version: ModelVersion, rounds: int) -> int:
    """The number of answers that differ from those to the same request alone."""
    golden, _ = read_golden(version)
    alone, wrong = backends.load(version, "onnx"), 0
    async with Host(version, "onnx", ReplicaEvents()) as host:
        for seed in range(rounds):
            asked = requests_of(version.spec, golden, seed)
            given = [
                [from_array(name, array) for name, array in inputs.items()] for inputs in asked
            ]
            answers = await asyncio.gather(
                *(host.infer(Request(i, (), monotonic() + _TIMEOUT_S)) for i in given)
            )
            for inputs, answer in zip(asked, answers, strict=True):
                expected = {
                    name: to_array(from_array(name, a)) for name, a in alone.run(inputs).items()
                }
                found = {tensor.name: to_array(tensor) for tensor in answer.outputs}
                tolerance = version.spec.batching.tolerance if version.spec.is_batched else 0.0
                wrong += not all(
                    answers_alike(found[name], expected[name], tolerance) for name in found
                )
    return wrong


def try_one(file: Path, root: Path, rounds: int) -> Outcome:
    """Add a file to the repository `root`, which is its own, and ask it."""
    started_s, said = monotonic(), list[str]()
    try:
        version = read_version(add(file, "model", root, tell=said.append))
    except BadSpec as error:
        return Outcome(f"refused: {error.reason}", None, monotonic() - started_s)
    add_s = monotonic() - started_s
    served = (
        "batched"
        if version.spec.is_batched
        else f"unbatched: {said[-1].removesuffix('; served one request at a time')}"
    )
    return Outcome(served, asyncio.run(wrong_of(version, rounds)), add_s)


def main(
    folder: Annotated[Path, typer.Argument(help="Where the ONNX files are.")],
    rounds: Annotated[int, typer.Option(min=1, help="Of 24 requests at once.")] = 10,
) -> None:
    """Add every ONNX file of a folder, infer for many callers at once, compare with each alone."""
    table, wrong = Table("file", "served", "wrong", "add, s", box=None), 0
    for file in track(sorted(folder.rglob("*.onnx")), console=Console(stderr=True)):
        with TemporaryDirectory() as root:
            outcome = try_one(file, Path(root), rounds)
        wrong += outcome.wrong or 0
        told = "" if outcome.wrong is None else f"{outcome.wrong} of {rounds * _AT_ONCE}"
        table.add_row(str(file.relative_to(folder)), outcome.served, told, f"{outcome.add_s:.1f}")
    Console().print(table)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
