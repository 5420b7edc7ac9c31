"""The unmodified Triton clients on every model, JSON and binary: all get golden answers."""

import asyncio
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from loadtests.support.checkout import REPOSITORY
from tests.platform.running import Platform

from headrace_models.build import ZOO
from headrace_models.repository import ModelVersion, scan

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

MODELS = sorted(ZOO)


def _golden(version: ModelVersion) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    with np.load(version.path(version.spec.golden), allow_pickle=False) as saved:
        arrays = dict(saved)
    split: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
    for key, array in arrays.items():
        kind, _, name = key.partition(":")
        split[kind == "output"][name] = array
    return split


def _inputs(
    kind: Any, version: ModelVersion, arrays: dict[str, np.ndarray], *, binary: bool
) -> list[Any]:
    inputs = []
    for spec in version.spec.inputs:
        tensor = kind(spec.name, list(arrays[spec.name].shape), spec.datatype)
        tensor.set_data_from_numpy(arrays[spec.name], binary_data=binary)
        inputs.append(tensor)
    return inputs


def _check(result: Any, expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(result.as_numpy(name), array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("model", MODELS)
def test_the_triton_client_gets_the_golden_answer(
    served: Platform, model: str, *, binary: bool
) -> None:
    version = scan(REPOSITORY, [model])[0][0]
    inputs, expected = _golden(version)
    client = triton.InferenceServerClient(f"127.0.0.1:{served.port}")
    assert client.is_model_ready(model)
    assert client.get_model_metadata(model)["name"] == model
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in expected]
    sent = _inputs(triton.InferInput, version, inputs, binary=binary)
    _check(client.infer(model, sent), expected)
    answer = client.infer(model, sent, outputs=outputs, request_id="seven")
    assert answer.get_response()["id"] == "seven"
    _check(answer, expected)
    client.close()


# The warning is the client's own, about JSON of an image.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_the_asyncio_triton_client_gets_the_golden_answers(
    served: Platform, *, binary: bool
) -> None:
    async def ask_all() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
            assert await client.is_server_ready()
            for version in scan(REPOSITORY, MODELS)[0]:
                inputs, expected = _golden(version)
                sent = _inputs(triton_aio.InferInput, version, inputs, binary=binary)
                _check(await client.infer(version.spec.name, sent), expected)

    asyncio.run(ask_all())


def test_a_version_in_the_url_is_the_one_that_answers(served: Platform) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{served.port}")
    version = scan(REPOSITORY, ["dga-lstm"])[0][0]
    inputs, _ = _golden(version)
    sent = _inputs(triton.InferInput, version, inputs, binary=True)
    assert client.infer("dga-lstm", sent, model_version="1").get_response()["model_version"] == "1"
    with pytest.raises(triton.InferenceServerException, match="no such version"):
        client.infer("dga-lstm", sent, model_version="2")
    client.close()
