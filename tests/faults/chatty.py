"""A gateway whose event loop logs much: prints the answers to requests, and if log lines are
missing.

python -m tests.faults.chatty FOLDER
"""

import logging
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from loadtests.support.in_process_platform import in_process_platform

from headrace.telemetry import logs

LINES, REQUESTS = 4000, 20


def main(folder: Path) -> None:
    logs.configure("gateway")
    with in_process_platform(folder) as at:
        for n in range(LINES):
            at.gateway_thread.call(partial(logging.warning, "line %d: %s", n, "much " * 100))
        found = Counter(at.infer(np.ones((1, 4), np.float32))[0] for _ in range(REQUESTS))
        print(dict(found), logs.dropped_lines() > 0)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
