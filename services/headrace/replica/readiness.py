"""The readiness of a replica: it is as ready as its last successful inference is recent."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from time import monotonic

from headrace.errors import DeadlineExceeded, Overloaded, RunStopped
from headrace.inference.request import Request

__all__ = ["PROOF_LIFE_S", "Readiness"]

log = logging.getLogger(__name__)

# A replica that was idle for PROVE_AFTER_S runs its golden row. An inference that succeeds proves
# that the model works for PROOF_LIFE_S; its answer is not compared.
PROVE_AFTER_S = 4.0
PROOF_LIFE_S = 20.0


class Readiness:
    """Remembers the last proof that the model works; `keep` renews it while idle."""

    def __init__(self) -> None:
        self._proved_s = monotonic()
        self._is_doubted = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return monotonic() - self._proved_s < PROOF_LIFE_S

    def prove(self, now_s: float) -> None:
        """An inference succeeded."""
        self._proved_s = now_s

    def doubt(self) -> None:
        """A run was stopped: have the golden row tell at once whether the model still works."""
        self._is_doubted.set()

    async def keep(self, run_golden: Callable[[Request], Awaitable[object]]) -> None:
        """Run the golden row when the last proof is old or doubted, until cancelled.

        If the model does not end on its golden row, no older proof counts.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROVE_AFTER_S):
                    await self._is_doubted.wait()
            if monotonic() - self._proved_s < PROVE_AFTER_S and not self._is_doubted.is_set():
                continue
            self._is_doubted.clear()
            try:
                # Alone, so that no request beside it makes it fail.
                await run_golden(Request((), (), monotonic() + PROOF_LIFE_S, runs_alone=True))
            except RunStopped:
                log.error("the model does not end on its golden row: it is not ready")
                self._proved_s = -inf
                self._is_doubted.clear()
            except (Overloaded, DeadlineExceeded) as error:
                # Requests keep it waiting, and prove as much.
                log.warning("the golden row was not run: %s", error.message)
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "the golden row failed", "exception": error}
                )
