"""Runs one fuzz target under atheris: from its seeds, for the time said, until something is raised
that is no refusal.

A target is run as `python -m tests.fuzz.json_body -max_total_time=30`; further options are
libFuzzer's. What it finds is written to reports/fuzz/, and becomes a numbered case of the
catalogue.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

from headrace.errors import HeadraceError
from headrace_models.errors import ModelError

__all__ = ["fuzz"]

SEEDS = Path(__file__).parent / "seeds"
FOUND = Path("reports/fuzz")
_MAX_BYTES, _PATIENCE_S, _MEMORY_MB = 65_536, 5, 2048


def fuzz(name: str, read: Callable[[bytes], object]) -> None:
    """Feed `read` until the time is over and end the process. `name` is the folder of seeds."""

    def one(data: bytes) -> None:
        try:
            read(data)
        except (HeadraceError, ModelError):
            return

    limits = [f"-max_len={_MAX_BYTES}", f"-timeout={_PATIENCE_S}", f"-rss_limit_mb={_MEMORY_MB}"]
    prefix = f"-artifact_prefix={FOUND}/{name}-"
    atheris.Setup([sys.argv[0], *limits, prefix, *sys.argv[1:], str(_corpus(name))], one)
    atheris.Fuzz()


def _corpus(name: str) -> Path:
    """A folder of the seeds as bytes, which the fuzzer extends. Seeds *.hex are hexadecimal."""
    corpus = FOUND / f"{name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in sorted((SEEDS / name).iterdir()):
        content = seed.read_bytes()
        (corpus / seed.name).write_bytes(
            bytes.fromhex(content.decode()) if seed.suffix == ".hex" else content
        )
    return corpus
