"""The requests of a soak: good ones, malformed ones, and callers who leave in every phase."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from loadtests.inputs import MODELS, WEIGHTS, CheckedRequest, infer_request, requests_for
from loadtests.support.bad_inputs.builders import build
from loadtests.support.bad_inputs.catalogue import CASES, Case
from loadtests.support.checkout import REPOSITORY
from loadtests.support.http_client import BROKEN, GIVEN_UP, HttpClient
from loadtests.support.raw_http import call

from headrace_models.golden import read_golden
from headrace_models.repository import scan

__all__ = ["DISCONNECTS", "GOOD", "MALFORMED", "Kind", "Outcome", "Traffic", "cut", "good_requests"]

Kind = Literal["good", "malformed", "disconnect"]
Phase = Literal["head", "body", "waiting"]
# The share of each kind, and the phases in which callers leave.
GOOD, MALFORMED, DISCONNECTS = 0.75, 0.15, 0.10
PHASES: tuple[Phase, ...] = ("head", "body", "waiting")
_LEAVES_WITHIN_S = 0.02
_CONNECTED_WITHIN_S = 10.0
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one request. `what`: model, case or phase; `is_wrong`: a false 200."""

    kind: Kind
    what: str
    status: int
    is_expected: bool
    is_wrong: bool = False


def good_requests(
    models: Sequence[str], repository: Path = REPOSITORY
) -> Mapping[str, Sequence[CheckedRequest]]:
    """Users' requests to each of these models, and golden rows, whose answers are known."""
    found = {name: [*requests_for(name, repository)] for name in models if name in MODELS}
    for version in scan(repository, found)[0]:
        inputs, outputs = read_golden(version)
        output, expected = next(iter(outputs.items()))
        for n in range(len(expected)):
            row = {name: array[n : n + 1] for name, array in inputs.items()}
            found[version.spec.name].append(
                infer_request(version.spec.name, row, output, expected[n : n + 1])
            )
    return found


def cut(request: bytes, phase: Phase, chance: np.random.Generator) -> bytes:
    """The bytes that a caller sends before leaving in a phase."""
    head = request.index(b"\r\n\r\n") + 4
    if phase == "waiting":
        return request
    return (
        request[: chance.integers(1, head)]
        if phase == "head"
        else request[: chance.integers(head, len(request))]
    )


class Traffic:
    """Makes one request after another, each of a kind that chance picks by the shares.

    `malformed` and whatever blocks is sent by the threads of `callers`.
    """

    def __init__(
        self,
        client: HttpClient,
        address: tuple[str, int],
        requests: Mapping[str, Sequence[CheckedRequest]],
        callers: Executor,
        seed: int,
    ) -> None:
        self._client = client
        self._address = address
        self._requests = requests
        self._callers = callers
        self._chance = np.random.default_rng(seed)
        weights = np.array([WEIGHTS[name] for name in requests], float)
        self._models = list(requests)
        self._weights = weights / weights.sum()
        self._cases = self._again_and_again(
            [(case, build(case.send)) for case in CASES if case.at == "platform"]
        )
        self._leaving = 0

    def next(self) -> Callable[[], Awaitable[Outcome]]:
        """The next request, to be awaited when it is due; gives an Outcome and never raises."""
        share = self._chance.random()
        if share < MALFORMED:
            return partial(self._malformed, *next(self._cases))
        if share < MALFORMED + DISCONNECTS:
            self._leaving += 1
            return partial(self._leave, self._request(), PHASES[self._leaving % len(PHASES)])
        return partial(self._good, self._request())

    def _again_and_again(self, cases: Sequence[tuple[Case, bytes]]) -> Iterator[tuple[Case, bytes]]:
        """Cycle through all, shuffled each time, so that the first minutes have them all."""
        while True:
            yield from (cases[n] for n in self._chance.permutation(len(cases)))

    def _request(self) -> CheckedRequest:
        requests = self._requests[str(self._chance.choice(self._models, p=self._weights))]
        return requests[int(self._chance.integers(0, len(requests)))]

    async def _good(self, request: CheckedRequest) -> Outcome:
        reply = await self._client.send(request)
        is_right = reply.status == 200 and request.accepts(reply.body)
        return Outcome(
            "good",
            request.model,
            reply.status,
            is_right,
            is_wrong=reply.status == 200 and not is_right,
        )

    async def _malformed(self, case: Case, sent: bytes) -> Outcome:
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(
                self._callers, call, self._address[1], sent, case.then
            )
        except TimeoutError:
            return Outcome("malformed", case.id, GIVEN_UP, is_expected=False)
        except OSError:
            return Outcome("malformed", case.id, BROKEN, is_expected=False)
        is_expected = answer.status in case.status and (
            answer.status < 400 or answer.code in case.code
        )
        return Outcome("malformed", case.id, answer.status, is_expected)

    async def _leave(self, request: CheckedRequest, phase: Phase) -> Outcome:
        """Expected is only that the connection is taken: there is nobody to be answered."""
        try:
            async with asyncio.timeout(_CONNECTED_WITHIN_S):
                _, writer = await asyncio.open_connection(*self._address)
        except OSError:  # a timeout is one, too
            return Outcome("disconnect", phase, BROKEN, is_expected=False)
        sock: socket.socket = writer.get_extra_info("socket")
        if self._chance.random() < 0.5:  # the others end in order
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.write(cut(self._client.encoded(request), phase, self._chance))
        await asyncio.sleep(self._chance.random() * _LEAVES_WITHIN_S)
        writer.transport.abort()
        return Outcome("disconnect", phase, BROKEN, is_expected=True)
