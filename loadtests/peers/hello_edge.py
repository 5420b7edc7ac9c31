"""The same application on this project's own HTTP server.

    python -m loadtests.peers.hello_edge PORT [SECONDS]

SECONDS is what a head and a body have to arrive, the usual limits if it is not given.
"""

import asyncio
import signal
import sys

import uvloop

from headrace.edge.exchange import Exchange, Response
from headrace.edge.framing import split_target
from headrace.edge.limits import EdgeLimits
from headrace.edge.problems import problem
from headrace.edge.server import listen, serve_http
from headrace.errors import HeadraceError

_ANSWER = Response(200, b'{"live":true}')


class Hello:
    def admit(self, exchange: Exchange, target: bytes) -> None:
        split_target(exchange.method, target)

    async def answer(self, _: Exchange, __: bytes) -> Response:
        return _ANSWER

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        return problem(error, "hello", headers=exchange.headers)

    def left(self, exchange: Exchange) -> None: ...


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limits = EdgeLimits()
    if len(sys.argv) > 2:
        limit_s = float(sys.argv[2])
        limits = EdgeLimits(
            head_timeout_s=limit_s, body_timeout_s=limit_s, keep_alive_s=2 * limit_s
        )
    await serve_http(Hello(), listen("127.0.0.1", int(sys.argv[1])), stop, limits)


if __name__ == "__main__":
    uvloop.run(main())
