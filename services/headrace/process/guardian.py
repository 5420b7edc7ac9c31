"""A guardian for this process: a tiny process that kills it if it stays stopped or orphaned."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from headrace.process import guardian_process

__all__ = ["Guardian"]

log = logging.getLogger(__name__)


class Guardian:
    """Call `keep` now and then: it starts the guardian, and a new one if the guardian has died."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Start the guardian if none runs; does nothing without /proc."""
        if self._process is not None and self._process.poll() is None:
            return
        if not Path("/proc/self/stat").exists():
            return
        if self._process is not None:
            log.warning(
                "the guardian ended with code %s; starting a new one", self._process.returncode
            )
        try:
            # In a session of its own, so that signals to this process's group do not reach it.
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    guardian_process.__file__,
                    str(os.getpid()),
                    str(self._parent),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.warning(
                "could not start a guardian: %s; until the next attempt nothing ends this process "
                "if it stays stopped or loses its parent",
                error,
            )
