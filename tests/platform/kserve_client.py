"""Prints the answers that KServe's client gets as JSON, in an interpreter with kserve but no
headrace.

Arguments: the platform's URL, then `model=file` for each model with its golden inputs and outputs.
"""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

DATATYPES = {"int64": "INT64", "float32": "FP32"}


def inputs_of(file: str) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as saved:
        return {
            name.removeprefix("input:"): array
            for name, array in saved.items()
            if name.startswith("input:")
        }


def request_of(model: str, arrays: dict[str, np.ndarray], *, is_binary: bool) -> Any:
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), DATATYPES[array.dtype.name])
        tensor.set_data_from_numpy(array, binary_data=is_binary)
        inputs.append(tensor)
    return InferRequest(model, inputs, request_id="7", parameters={"binary_data_output": is_binary})


async def answers(url: str, model: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The model's outputs by protocol; with v1 those of the first row alone."""
    found: dict[str, Any] = {}
    async with client("v2") as v2, client("v1") as v1:
        for is_binary in (True, False):
            answer = await v2.infer(
                url, request_of(model, arrays, is_binary=is_binary), model_name=model
            )
            assert (answer.id, answer.model_name) == ("7", model)
            outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
            found["v2 binary" if is_binary else "v2 json"] = outputs
        row = {name: array[0].tolist() for name, array in arrays.items()}
        found["v1 rows"] = (await v1.infer(url, {"instances": [row]}, model_name=model))[
            "predictions"
        ]
        columns = {name: array[:1].tolist() for name, array in arrays.items()}
        found["v1 columns"] = (await v1.infer(url, {"inputs": columns}, model_name=model))[
            "outputs"
        ]
        found["ready"] = [await c.is_model_ready(url, model) for c in (v1, v2)]
    return found


async def health(url: str) -> dict[str, Any]:
    async with client("v2") as v2, client("v1") as v1:
        return {
            "live": [await c.is_server_live(url) for c in (v1, v2)],
            "ready": await v2.is_server_ready(url),
            "unknown model": await v2.is_model_ready(url, "nobody"),
            "unknown model, v1": await error_of(v1.is_model_ready(url, "nobody")),
            "bad input": await error_of(v2.infer(url, {"inputs": []}, model_name="dga-lstm")),
            "explain": await error_of(v1.explain(url, "dga-lstm", {"instances": ["gnu.org"]})),
        }


def client(protocol: str) -> Any:
    return InferenceRESTClient(RESTConfig(protocol=protocol, retries=0))


async def error_of(asking: Any) -> str:
    try:
        return f"answered: {await asking}"
    except httpx.HTTPStatusError as error:
        return str(error)


async def main(url: str, *models: str) -> None:
    golden = dict(model.split("=", 1) for model in models)
    found = {model: await answers(url, model, inputs_of(file)) for model, file in golden.items()}
    sys.stdout.write(json.dumps({"health": await health(url), "models": found}))


asyncio.run(main(*sys.argv[1:]))
