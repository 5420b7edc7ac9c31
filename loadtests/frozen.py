"""Failures that callers see when a process is stopped for good, or an input never ends in a model.

    python -m loadtests.frozen DATA_PORT ADMIN_PORT replica|gateway [MODEL]    # SIGSTOP
    python -m loadtests.frozen DATA_PORT ADMIN_PORT endless

The first sends SIGSTOP to one process while 20 requests/s arrive; the second needs the model
`loop` of tests/replica. Both need a platform on this machine that may be harmed.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import orjson
from loadtests.support.http_request import http_request
from rich.console import Console

console = Console(soft_wrap=True, highlight=False)

PER_S, BEFORE_S, AFTER_S = 20, 3.0, 20.0
TIMEOUT_S = 30.0
ENDLESS = 1 << 60


class Outcome(NamedTuple):
    """When it was sent, from the signal on; what came, and how long that took."""

    sent_s: float
    what: str
    took_s: float


def ask(port: int, path: str, body: object, deadline_s: float | None = None) -> str:
    """The status and, of an error, its code; or what became of the connection."""
    headers = {"X-Request-Timeout": str(deadline_s)} if deadline_s else {}
    try:
        answer = http_request(port, "POST", path, orjson.dumps(body), headers, timeout_s=TIMEOUT_S)
    except OSError as error:
        return type(error).__name__
    return "200" if answer.status == 200 else f"{answer.status} {answer.json['code']}"


def pids(admin_port: int, role: str) -> list[int]:
    health = http_request(admin_port, "GET", "/healthz", timeout_s=TIMEOUT_S).json
    return [process["pid"] for process in health["processes"] if process["role"] == role]


def stop(port: int, admin_port: int, role: str, model: str) -> None:
    pid = pids(admin_port, role)[0]
    began_s = time.monotonic()
    signal_s = began_s + BEFORE_S

    def one(at_s: float) -> Outcome:
        time.sleep(max(0.0, at_s - time.monotonic()))
        sent_s = time.monotonic()
        what = ask(port, f"/v1/models/{model}:classify", {"input": "wikipedia.org"})
        return Outcome(sent_s - signal_s, what, time.monotonic() - sent_s)

    with ThreadPoolExecutor(256) as callers:
        asked = [
            callers.submit(one, began_s + n / PER_S)
            for n in range(int(PER_S * (BEFORE_S + AFTER_S)))
        ]
        time.sleep(max(0.0, signal_s - time.monotonic()))
        os.kill(pid, signal.SIGSTOP)
        outcomes = [each.result() for each in asked]
    failed = [each for each in outcomes if each.what != "200"]
    console.print(
        f"{role} {pid} stopped: {len(failed)} of {len(outcomes)} failed: "
        f"{dict(Counter(e.what for e in failed))}"
    )
    console.print(
        f"last failure sent {max((e.sent_s for e in failed), default=0.0):.1f} s after the "
        "signal, ",
        end="",
    )
    console.print(
        f"ended {max((e.sent_s + e.took_s for e in failed), default=0.0):.1f} s after it; ", end=""
    )
    console.print(f"longest wait {max(e.took_s for e in outcomes):.1f} s")


def endless(port: int) -> None:
    def infer(number: int, deadline_s: float) -> str:
        tensor = {"name": "x", "datatype": "INT64", "shape": [1, 4], "data": [number] * 4}
        began_s = time.monotonic()
        what = ask(port, "/v2/models/loop/infer", {"inputs": [tensor]}, deadline_s)
        return f"{what} in {time.monotonic() - began_s:.3f} s"

    console.print("good", infer(5, 5.0))
    for index, deadline_s in enumerate((2.0, 30.0)):
        number = ENDLESS + index
        with ThreadPoolExecutor(2) as callers:
            first = callers.submit(infer, number, deadline_s)
            time.sleep(0.2)
            other = callers.submit(infer, 5, 10.0)
            console.print(
                f"endless, deadline {deadline_s:g} s:",
                first.result(),
                "| meanwhile good:",
                other.result(),
            )
        for _ in range(4):  # each gateway learns by itself
            console.print("  again:", infer(number, deadline_s))
        with ThreadPoolExecutor(21) as callers:
            asked = [
                callers.submit(infer, n, 30.0) for n in (*range(1, 11), number + 10, *range(11, 21))
            ]
            console.print(
                "  among 20 others:",
                max(f.result() for f in asked if f is not asked[10]),
                "|",
                asked[10].result(),
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("admin_port", type=int)
    parser.add_argument("what", choices=("replica", "gateway", "endless"))
    parser.add_argument("model", nargs="?", default="dga-lstm")
    given = parser.parse_args()
    if given.what == "endless":
        endless(given.port)
    else:
        stop(given.port, given.admin_port, given.what, given.model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
