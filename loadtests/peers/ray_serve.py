"""Ray Serve as its documentation writes it: a FastAPI ingress, a handle, a deployment with
@serve.batch.

    BENCH_MODEL=cnn.onnx python -m loadtests.peers.ray_serve 8000

Where a default would hold it back it has better: batches wait 2 ms instead of 10, a replica takes
256 requests at once instead of 5, and JSON goes through orjson instead of FastAPI's models.
"""

import os
import sys

import ray
from fastapi import FastAPI, Request, Response
from loadtests.peers.cnn import (
    MAX_ROWS,
    PATH,
    Rows,
    answer_rows,
    decode,
    encode,
    model_file,
    open_session,
)
from ray import serve
from ray.serve.handle import DeploymentHandle

api = FastAPI()


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Cnn:
    def __init__(self) -> None:
        self.session = open_session(model_file())

    @serve.batch(max_batch_size=MAX_ROWS, batch_wait_timeout_s=0.002)
    async def __call__(self, inputs: list[Rows]) -> list[Rows]:
        return answer_rows(self.session, inputs)


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
@serve.ingress(api)
class Ingress:
    def __init__(self, cnn: "DeploymentHandle[Cnn]") -> None:
        self.cnn = cnn

    @api.post(PATH)
    async def infer(self, request: Request) -> Response:
        y = await self.cnn.remote(decode(await request.body()))
        return Response(encode(y), media_type="application/json")


def main(port: int) -> None:
    """Serve on loopback until killed, on a node of its own."""
    ray.init(
        address="local",
        num_cpus=max(2, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    # Ray's types say that a decorated class is still a class; it is a Deployment.
    serve.run(Ingress.bind(Cnn.bind()), blocking=True)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(int(sys.argv[1]))
