"""mosec, as its documentation writes it: one worker, dynamic batches.

    BENCH_MODEL=cnn.onnx python -m loadtests.peers.mosec_app --address 127.0.0.1 --port 8000

Batches wait 1 ms, the least that it can be told, instead of 10.
"""

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
from mosec import Server, Worker  # type: ignore[import-not-found] # it lives in an environment of its own


class Cnn(Worker):  # type: ignore[misc] # Worker is Any where mosec is not installed
    def __init__(self) -> None:
        self.session = open_session(model_file())

    def deserialize(self, data: bytes) -> Rows:
        return decode(data)

    def forward(self, data: list[Rows]) -> list[Rows]:
        return answer_rows(self.session, data)

    def serialize(self, data: Rows) -> bytes:
        return encode(data)


if __name__ == "__main__":
    server = Server()  # it reads the command line
    server.append_worker(Cnn, num=1, max_batch_size=MAX_ROWS, max_wait_time=1, route=PATH)
    server.run()
