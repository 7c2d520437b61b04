"""The clients of the gateway, on a network that only behaves like one."""

import asyncio

import numpy as np
import pytest
from conftest import KEY

import consilience
from consilience import AsyncClient, Client, Tensor

HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def client(gateway):
    with Client(gateway, KEY) as client:
        yield client


class Sync:
    """The asyncio client behind the interface of the other, so that one test holds for both."""

    def __init__(self, url, key):
        self.url, self.key = url, key

    def __getattr__(self, name):
        async def call(*a, **k):
            async with AsyncClient(self.url, self.key) as client:
                found = await getattr(client, name)(*a, **k)
                if isinstance(found, consilience.AsyncChatStream):
                    return [text async for text in found], found.reply
                return found

        return lambda *a, **k: asyncio.run(call(*a, **k))


@pytest.fixture(params=[Client, Sync], ids=["sync", "async"])
def either(gateway, request):
    return request.param(gateway, KEY)


def test_models(either):
    models = {model.id: model for model in either.models()}
    assert {"chat", "embed", "double"} <= set(models)
    assert models["chat"].task == "text-generation"
    assert models["chat"].consilience["price"]["per_request"] == "10"
    # One that takes no requests is described, and not listed.
    assert "idle" not in models
    assert either.model("idle").consilience["status"] == "registered"
    with pytest.raises(consilience.NotFoundError) as refused:
        either.model("gpt-4o")
    assert (refused.value.code, refused.value.param, refused.value.status) == ("model_not_found", "model", 404)


def test_chat(either):
    said = either.chat("chat", HELLO, max_tokens=64, temperature=0.5)
    assert said.text == "You said: Hello there"
    assert said.finish_reason == "stop" and said.message["role"] == "assistant"
    assert said.usage["completion_tokens"] == 5
    assert said.status in ("checked", "final") and said.consilience.checked
    assert said.request == said.consilience.raw["request"]
    assert len(said.consilience.verifiers) == 2 and said.consilience.executor
    assert said.consilience.paid == 600 and said.consilience.block["number"] > 0


def test_a_text_is_a_message_and_a_conversation_goes_on(client):
    first = client.chat("chat", "Hello there")
    assert first.text == "You said: Hello there"
    said = client.chat("chat", [*HELLO, first.message, {"role": "user", "content": "And then?"}])
    assert said.text == "You said: And then?"


@pytest.mark.parametrize(
    ("wait", "statuses"),
    [("provisional", {"provisional", "checked", "final"}), ("checked", {"checked", "final"}), ("final", {"final"})],
)
def test_every_wait(either, wait, statuses):
    said = either.chat("chat", HELLO, wait=wait)
    assert said.status in statuses
    assert said.consilience.finalized == (said.status == "final")


def test_stream(client):
    steps = []
    with client.chat("chat", HELLO, stream=True, on_step=lambda own: steps.append(own.status)) as stream:
        with pytest.raises(RuntimeError, match="not come to its end"):
            _ = stream.reply
        assert "".join(stream) == "You said: Hello there" == stream.text
    said = stream.reply
    assert said.text == "You said: Hello there" and said.finish_reason == "stop"
    assert said.usage["completion_tokens"] == 5
    assert said.status in ("checked", "final") and said.request is not None
    assert said.message == {"role": "assistant", "content": said.text}
    assert {"assigned", "provisional"} <= set(steps) and steps[-1] == said.status
    # Its text is there before its end.
    assert steps.index("provisional") < len(steps) - 1


def test_async_stream(gateway):
    parts, said = Sync(gateway, KEY).chat("chat", HELLO, stream=True, wait="final")
    assert "".join(parts) == said.text == "You said: Hello there"
    assert said.status == "final"


def test_finish_reads_what_is_left(client):
    assert client.chat("chat", HELLO, stream=True).finish().text == "You said: Hello there"


def test_pings_are_not_noticed(slow_gateway):
    with Client(slow_gateway) as client, client.chat("chat", HELLO, stream=True) as stream:
        assert "".join(stream) == "You said: Hello there"


def test_embeddings(either):
    said = either.embed("embed", ["a", "bb"])
    assert said.embeddings == ((1, 0.5, -1, 0.25), (2, 0.5, -1, 0.25))
    assert len(said.consilience.requests) == 2 and said.request is None
    assert said.consilience.checked and said.consilience.paid == 1_200
    one = either.embed("embed", "abc", dimensions=4)
    assert one.embeddings[0][0] == 3 and one.request is not None


def test_tensors(either):
    x = np.array([[0.5, -1], [3, 4]], dtype=np.float32)
    said = either.infer("double", {"x": x}, wait="final")
    assert np.array_equal(said["y"], 2 * x) and said["y"].numpy().dtype == np.float32
    assert said.status == "final" and said.request is not None
    # Without numpy, and with outputs named.
    said = either.infer("double", {"x": Tensor("FP32", (1, 2), [0.5, -1])}, outputs=["y"])
    assert said.outputs["y"].tolist() == [[1, -2]]
    # Rows that do not lie one after the other, and numbers of a machine with another order.
    assert either.infer("double", {"x": x.T}).outputs["y"].tolist() == [[1, 6], [-2, 8]]
    assert either.infer("double", {"x": x.astype(">f4")}).outputs["y"].tolist() == [[1, -2], [6, 8]]


def test_text_over_the_open_inference_protocol(client):
    said = client.infer("chat", {"prompt": "größer\u2028"}, max_tokens=9)
    assert said["text"].tolist() == ["You said: größer\u2028"]


def test_what_is_no_tensor(client):
    for value in ([0.5, -1], 3, {"a": 1}):
        with pytest.raises(TypeError, match="is no tensor"):
            client.infer("double", {"x": value})
    with pytest.raises(consilience.BadRequestError) as refused:
        client.infer("double", {"x": np.array([[np.nan, 1]], dtype=np.float32)})
    assert refused.value.status == 400 and "not finite" in refused.value.message


def test_many_at_once(gateway):
    async def ask():
        async with AsyncClient(gateway, KEY) as client:
            return await asyncio.gather(*(client.chat("chat", f"number {n}") for n in range(100)))

    said = asyncio.run(ask())
    assert [reply.text for reply in said] == [f"You said: number {n}" for n in range(100)]
    assert len({reply.request for reply in said}) == 100


def test_asking_once(client):
    first = client.chat("chat", "Hello")
    again = client.chat("chat", "Hello", idempotency_key=first.idempotency_key)
    assert again.request == first.request and again.text == first.text
    # The same call without the key is another request.
    assert client.chat("chat", "Hello").request != first.request
    with pytest.raises(consilience.UnprocessableEntityError) as refused:
        client.chat("chat", "Goodbye", idempotency_key=first.idempotency_key)
    assert refused.value.code == "idempotency_key_reused"
    # A stream that was broken off goes on with its key.
    # So is a stream that was broken off.
    with client.chat("chat", "Hello", stream=True, idempotency_key="mine"):
        pass
    said = client.chat("chat", "Hello", stream=True, idempotency_key="mine").finish()
    assert said.idempotency_key == "mine"
    assert client.chat("chat", "Once more").request == said.request + 1


def test_the_key_may_come_from_the_environment(gateway, monkeypatch):
    monkeypatch.setenv("CONSILIENCE_GATEWAY", gateway)
    with pytest.raises(consilience.AuthenticationError) as refused:
        Client().models()
    assert refused.value.code == "invalid_api_key" and refused.value.status == 401
    monkeypatch.setenv("CONSILIENCE_API_KEY", KEY)
    assert Client().models()
    # An address without /v1 is the same gateway.
    assert Client(gateway.removesuffix("/v1")).model("chat").id == "chat"
