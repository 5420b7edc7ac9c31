"""An environment of its own for a peer that is no dependency of this project."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PeerUnavailable", "prepare"]

_INSTALL_TIMEOUT_S = 300


class PeerUnavailable(Exception):
    """A peer could not be installed."""


def prepare(folder: Path, requirements: Sequence[str]) -> Path:
    """The Python of an environment in `folder` with `requirements`, made with the interpreter that
    runs this.

    It is kept for the next time, and made anew when the requirements or the interpreter are others.
    Raises PeerUnavailable.
    """
    python, ready = folder / "bin" / "python", folder / ".ready"
    recipe = "\n".join((str(Path(sys.executable).resolve()), *requirements))
    if ready.is_file() and ready.read_text(encoding="utf-8") == recipe:
        return python
    # Our own pip installs into it: Debian's Python may lack what a fresh environment's pip is made
    # of.
    _run("venv", "--clear", "--without-pip", str(folder))
    _run(
        "pip",
        "--disable-pip-version-check",
        "--python",
        str(python),
        "install",
        "--quiet",
        *requirements,
    )
    ready.write_text(recipe, encoding="utf-8")
    return python


def _run(module: str, *arguments: str) -> None:
    command = (sys.executable, "-m", module, *arguments)
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerUnavailable(f"{module} took longer than {_INSTALL_TIMEOUT_S} s") from None
    if ended.returncode:
        lines = (ended.stderr.strip() or ended.stdout.strip() or "no message").splitlines()
        raise PeerUnavailable(f"{module}: {lines[-1]}")
