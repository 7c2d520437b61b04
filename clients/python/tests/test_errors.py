"""Whatever goes wrong is an error of the right class, told once, and nothing is asked twice."""

import asyncio
import json

import httpx
import pytest
from conftest import KEY, Server, reply, stream

import consilience
from consilience import AsyncClient, Client


def chunk(content=None, finish=None, **more):
    delta = {} if content is None else {"content": content}
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def event(value):
    return f"data: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}\n\n"


DONE = event("[DONE]")


def read(url, how, **parameters):
    """Reads a stream by one of the clients, and returns its text and reply."""
    if how == "sync":
        with Client(url, **parameters) as client, client.chat("chat", "a", stream=True) as opened:
            return list(opened), opened.reply

    async def run():
        async with AsyncClient(url, **parameters) as client, await client.chat("chat", "a", stream=True) as opened:
            return [text async for text in opened], opened.reply

    return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def how(request):
    return request.param


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("expire", consilience.InternalServerError, "expired"),
        ("reject", consilience.InternalServerError, "rejected"),
        ("unanswerable", consilience.BadRequestError, "context_length_exceeded"),
    ],
)
def test_what_fails_on_chain(gateway, text, kind, code):
    with Client(gateway, KEY) as client:
        with pytest.raises(kind) as failed:
            client.chat("chat", text)
        assert failed.value.code == code and failed.value.request > 0 and not failed.value.should_retry
        # Within a stream it is of the same class, after the text that had come.
        opened = client.chat("chat", text, stream=True)
        with pytest.raises(kind) as failed:
            list(opened)
        assert failed.value.code == code and failed.value.status is None
        assert opened.text == ("You said: reject" if text == "reject" else "")
        with pytest.raises(RuntimeError):
            _ = opened.reply


def test_a_full_network_says_when_to_come_back(gateway):
    with Client(gateway, KEY) as client:
        for parameters in ({}, {"stream": True}):
            with pytest.raises(consilience.RateLimitError) as full:
                client.chat("chat", "busy", **parameters)
            assert (full.value.retry_after, full.value.code, full.value.should_retry) == (
                7,
                "rate_limit_exceeded",
                True,
            )
            assert "ask again in 7 s" in str(full.value)


def test_keys_and_budgets(gateway, poor_gateway):
    with pytest.raises(consilience.AuthenticationError):
        Client(gateway, "wrong").models()
    with pytest.raises(consilience.RateLimitError) as refused:
        Client(poor_gateway, KEY).chat("chat", "a")
    assert refused.value.code == "insufficient_quota" and refused.value.retry_after is None


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("n", 2), ("frobnicate", 1)])
def test_what_is_not_honoured_is_refused_by_name(gateway, name, value):
    with pytest.raises(consilience.BadRequestError) as refused:
        Client(gateway, KEY).chat("chat", "a", **{name: value})
    assert refused.value.param == name and refused.value.code in ("unsupported_parameter", "unknown_parameter")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_nothing_is_asked_twice(how, status):
    error = json.dumps({"error": {"message": "no", "type": "server_error", "param": None, "code": "upstream_gone"}})
    with Server(reply(status, error, retry_after="3"), reply(200, "{}")) as server:
        with pytest.raises(consilience.APIError) as failed:
            read(server.url, how)
        assert failed.value.status == status and failed.value.retry_after == 3
        assert len(server.asked) == 1
        sent = server.asked[0][1]["idempotency-key"]
        assert failed.value.idempotency_key == sent


def test_each_call_has_a_key_of_its_own():
    said = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
    with Server(*[reply(200, json.dumps(said))] * 2, reply(200, '{"data": []}')) as server:
        client = Client(server.url)
        keys = [client.chat("m", "a").idempotency_key for _ in range(2)]
        assert client.models() == []
    assert [headers.get("idempotency-key") for _, headers, _ in server.asked] == [*keys, None]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "events",
    [
        [event(chunk("You said"))],
        [event(chunk("You said")), event(chunk(finish="stop"))],
        [event(chunk("You said")), DONE],
        [event(chunk("You said")), event(chunk(finish="stop")), "data: [DONE]"],
        [event(chunk("You said")), event(chunk(finish="stop")), "data: [DO"],
        [event(chunk("You said")), 'data: {"choices": [{"delta": {"content": ", and'],
        [event(chunk("You said")), event("not JSON"), event(chunk(finish="stop")), DONE],
    ],
    ids=["cut", "no done", "no finish reason", "half a line", "half a word", "half an event", "garbage"],
)
def test_a_broken_stream_is_no_end(how, events):
    with Server(stream(*events)) as server, pytest.raises(consilience.StreamBrokenError) as broken:
        read(server.url, how)
    assert broken.value.text == "You said" and broken.value.sent
    assert broken.value.idempotency_key == server.asked[0][1]["idempotency-key"]


def test_a_reset_connection_is_no_end(how):
    with Server(stream(event(chunk("You said"))), reset=True) as server:
        with pytest.raises(consilience.APIConnectionError) as broken:
            read(server.url, how)
        assert broken.value.sent and broken.value.idempotency_key


def test_an_error_within_a_stream(how):
    said = {"error": {"message": "replaced", "type": "server_error", "param": None, "code": "answer_replaced"}}
    with (
        Server(stream(event(chunk("You said")), event(said))) as server,
        pytest.raises(consilience.InternalServerError) as failed,
    ):
        read(server.url, how)
    assert (failed.value.code, failed.value.message) == ("answer_replaced", "replaced")


def test_lines_of_a_text_are_no_lines_of_the_stream(how):
    # JSON may hold these as they are, and Python's splitlines ends lines at them.
    text = "a\u2028b\u2029c\u0085d\x1ce"
    with Server(stream(event(chunk(text)), event(chunk(finish="stop")), DONE)) as server:
        parts, said = read(server.url, how)
    assert parts == [text] and said.text == text


def test_calls_of_tools_are_put_together(how):
    def part(**function):
        return chunk() | {"choices": [{"delta": {"tool_calls": [{"index": 0, **function}]}, "finish_reason": None}]}

    events = [
        part(id="call_1", type="function", function={"name": "add", "arguments": '{"a"'}),
        part(function={"arguments": ": 1}"}),
        chunk(finish="tool_calls"),
    ]
    with Server(stream(*map(event, events), DONE)) as server:
        _, said = read(server.url, how)
    assert said.finish_reason == "tool_calls" and said.text == ""
    assert said.message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ]


@pytest.mark.parametrize(
    "answer",
    [
        stream("<html>", kind="text/html"),
        stream(event({"choices": 3})),
        stream(event(chunk("a")), event({"other": 1})),
    ],
    ids=["no stream", "choices", "an event"],
)
def test_something_else_answers_a_stream(how, answer):
    with Server(answer) as server, pytest.raises(consilience.ReplyError):
        read(server.url, how)


@pytest.mark.parametrize("body", ["<html>", "[]", "3", '{"data": 3}', "{}"])
def test_something_else_answers(body):
    with Server(reply(200, body)) as server, pytest.raises(consilience.ReplyError):
        Client(server.url).models()


def test_a_proxy_answers_an_error():
    page = reply(502, "<html>Bad gateway</html>")
    with Server(page) as server, pytest.raises(consilience.InternalServerError, match="Bad gateway") as failed:
        Client(server.url).chat("m", "a")
    assert failed.value.code is None


def test_nobody_listens(how):
    with Server() as server:
        url = server.url
    with pytest.raises(consilience.APIConnectionError) as failed:
        read(url, how)
    assert not failed.value.sent


def test_a_gateway_that_takes_too_long():
    http = httpx.Client(timeout=0.2)
    with Server(lambda connection: connection.recv(1)) as server:
        with pytest.raises(consilience.APITimeoutError) as failed:
            Client(server.url, http=http).chat("m", "a")
        assert failed.value.sent and failed.value.idempotency_key == server.asked[0][1]["idempotency-key"]
        # Ends the server's wait.
        http.close()


def test_giving_up_and_asking_again_is_paid_once(slow_gateway):
    impatient = Client(slow_gateway, http=httpx.Client(timeout=0.15))
    with pytest.raises(consilience.APITimeoutError) as failed:
        impatient.chat("chat", "once")
    with Client(slow_gateway) as client:
        said = client.chat("chat", "once", idempotency_key=failed.value.idempotency_key)
        assert client.chat("chat", "twice").request == said.request + 1
