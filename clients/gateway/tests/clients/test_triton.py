"""NVIDIA's client of the Open Inference Protocol."""

import numpy
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def client(slow_gateway):
    with triton.InferenceServerClient(slow_gateway.removeprefix("http://")) as client:
        yield client


def tensor(values, binary):
    values = numpy.array(values, dtype=numpy.float32)
    given = triton.InferInput("x", list(values.shape), "FP32")
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("double") and not client.is_model_ready("idle")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("double")["inputs"][0]["datatype"] == "FP32"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("back", [True, False, None])
def test_tensors(client, there, back):
    wanted = None if back is None else [triton.InferRequestedOutput("y", binary_data=back)]
    said = client.infer("double", [tensor([[0.5, -1]], there)], outputs=wanted, request_id="mine")
    assert said.as_numpy("y").tolist() == [[1, -2]]
    assert said.get_response()["id"] == "mine"
    assert said.get_response()["consilience"]["checked"]


@pytest.mark.parametrize("binary", [True, False])
def test_text(client, binary):
    given = triton.InferInput("prompt", [1], "BYTES")
    given.set_data_from_numpy(numpy.array(["größer"], dtype=object), binary_data=binary)
    said = client.infer("chat", [given], parameters={"max_tokens": 9})
    assert said.as_numpy("text")[0].decode() == "You said: größer"


def test_what_is_refused(client):
    for call, says in [
        (lambda: client.infer("none", [tensor([[1, 2]], True)]), "does not exist"),
        (lambda: client.infer("chat", [tensor([[1, 2]], True)]), "one BYTES tensor"),
        (lambda: client.infer("double", [tensor([[1, 2]], True)], sequence_id=3), "keep nothing"),
    ]:
        with pytest.raises(InferenceServerException, match=says):
            call()


def test_a_wrong_key(gateway):
    client = triton.InferenceServerClient(gateway.removeprefix("http://"))
    with pytest.raises(InferenceServerException, match="no API key"):
        client.infer("double", [tensor([[1, 2]], True)])
    with pytest.raises(InferenceServerException, match="not known"):
        client.infer("double", [tensor([[1, 2]], True)], headers={"x-api-key": "wrong"})
