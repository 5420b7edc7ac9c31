"""The requests that a replica has not answered yet, and the blame for its death."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from headrace.channel.frames import NOBODY
from headrace.channel.withdrawn import Withdrawn
from headrace.errors import Blame, DeadlineExceeded, HeadraceError, ReplicaLost
from headrace.inference.request import Answer, Request

__all__ = ["OnBlame", "PendingRequests", "replica_lost"]

# Called with a request that is or may be to blame for a lost replica or a stopped run, if nobody
# waits for its answer any more.
OnBlame = Callable[[Request, Blame], None]


class _Pending(NamedTuple):
    request: Request
    future: asyncio.Future[Answer]
    timer: asyncio.TimerHandle


class PendingRequests:
    """Requests by the ids of their Asks, until each is answered, has failed or expired, or is lost.

    `withdraw` is called with the id of an Ask whose future was cancelled or has expired.
    """

    def __init__(self, withdraw: Callable[[int], None], on_blame: OnBlame | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._withdraw = withdraw
        self._on_blame = on_blame
        self._pending: dict[int, _Pending] = {}
        self._suspects: set[int] = set()
        self._alone = NOBODY  # the suspect that the replica last reported as running
        self.withdrawn = Withdrawn()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._pending)

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def add(self, ask_id: int, request: Request, budget_s: float) -> asyncio.Future[Answer]:
        """Wait for an answer for `budget_s` seconds; cancel the future to withdraw the request."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        timer = self._loop.call_later(budget_s, self._expire, future)
        self._pending[ask_id] = _Pending(request, future, timer)
        if request.runs_alone:
            self._suspects.add(ask_id)
        self._idle.clear()
        future.add_done_callback(lambda _: self._leave(ask_id))
        return future

    def answer(self, ask_id: int, answer: Answer) -> None:
        self.withdrawn.pop(ask_id)
        if ask_id == self._alone:
            self._alone = NOBODY
        if future := self._take(ask_id):
            future.set_result(answer)

    def fail(self, ask_id: int, error: HeadraceError, blame: Blame) -> None:
        request = self._request_of(ask_id)
        if future := self._take(ask_id):
            future.set_exception(error)
        elif request is not None:
            self.tell_blame(request, blame)

    def suspect_started(self, ask_id: int) -> None:
        """The suspect with this id runs alone from now on; NOBODY: none does."""
        self._alone = ask_id

    def lose(self) -> None:
        """Fail all requests, since the replica went away."""
        self.withdrawn.forget_old()
        ids = (*self._pending, *self.withdrawn)
        # The first loss changes what is known of the others, so the blames come before.
        blames = {ask_id: self._blame(ask_id) for ask_id in ids}
        for ask_id, blame in blames.items():
            self.fail(ask_id, replica_lost(blame), blame)

    def tell_blame(self, request: Request, blame: Blame) -> None:
        if self._on_blame and blame != "none":
            self._on_blame(request, blame)

    def _blame(self, ask_id: int) -> Blame:
        """A request's blame for the replica's end. If a suspect ran alone, the others have none."""
        if ask_id == self._alone:
            return "certain"
        return "none" if self._alone != NOBODY or ask_id in self._suspects else "possible"

    def _request_of(self, ask_id: int) -> Request | None:
        """The request of an Ask; a withdrawn one is forgotten."""
        pending = self._pending.get(ask_id)
        return pending.request if pending else self.withdrawn.pop(ask_id)

    def _take(self, ask_id: int) -> asyncio.Future[Answer] | None:
        """Remove a request; its future, unless that was withdrawn or has expired."""
        pending = self._pending.pop(ask_id, None)
        self._suspects.discard(ask_id)
        if not self._pending:
            self._idle.set()
        if pending is None:
            return None
        pending.timer.cancel()
        return None if pending.future.done() else pending.future

    def _expire(self, future: asyncio.Future[Answer]) -> None:
        if not future.done():
            future.set_exception(DeadlineExceeded("the replica did not answer before the deadline"))

    def _leave(self, ask_id: int) -> None:
        """Withdraw a request whose future was cancelled or has expired."""
        pending = self._pending.get(ask_id)
        if pending is None:
            return
        self.withdrawn.put(ask_id, pending.request)
        self._take(ask_id)
        self._withdraw(ask_id)


def replica_lost(blame: Blame = "none") -> ReplicaLost:
    return ReplicaLost("the replica went away before it answered", retry_after_s=1, blame=blame)
