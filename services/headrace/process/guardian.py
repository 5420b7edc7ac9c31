"""A guardian for this process: a tiny one beside it, which ends it if it stays stopped or orphaned."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from headrace.process import guardian_process

__all__ = ["Guardian"]

log = logging.getLogger(__name__)


class Guardian:
    """Call `keep` now and then: it starts the guardian, and another one if that has died."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Does nothing where there is no /proc to look at."""
        if self._process is not None and self._process.poll() is None:
            return
        if not Path("/proc/self/stat").exists():
            return
        if self._process is not None:
            log.warning("the guardian ended with %s: another one starts", self._process.returncode)
        nothing = subprocess.DEVNULL
        try:
            # In a session of its own, so that whatever stops or ends this process's group leaves it alone.
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    guardian_process.__file__,
                    str(os.getpid()),
                    str(self._parent),
                ],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.warning("no guardian: %s", error)
