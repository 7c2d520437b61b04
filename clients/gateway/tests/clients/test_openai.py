"""OpenAI's own client."""

import asyncio

import openai
import pydantic
import pytest
from conftest import CALL, KEY

HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def client(gateway):
    return openai.OpenAI(base_url=f"{gateway}/v1", api_key=KEY)


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert {"chat", "embed"} <= set(models)
    assert models["chat"].consilience["class"] == "exact"
    assert client.models.retrieve("chat").id == "chat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_chat(client):
    said = client.chat.completions.create(model="chat", messages=HELLO)
    assert said.choices[0].message.content == "You said: Hello there"
    assert said.choices[0].finish_reason == "stop"
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens
    assert said.consilience["status"] in ("checked", "final") and said.consilience["checked"]


def test_every_wait(client):
    for wait, statuses in [
        ("provisional", {"provisional", "checked", "final"}),
        ("checked", {"checked", "final"}),
        ("final", {"final"}),
    ]:
        by_field = client.chat.completions.create(
            model="chat", messages=HELLO, extra_body={"consilience": {"wait": wait}}
        )
        by_header = client.chat.completions.create(
            model="chat", messages=HELLO, extra_headers={"consilience-wait": wait}
        )
        for said in (by_field, by_header):
            assert said.consilience["status"] in statuses
            assert said.consilience["finalized"] == (said.consilience["status"] == "final")


def test_a_conversation_goes_on(client):
    first = client.chat.completions.create(model="chat", messages=HELLO)
    messages = [*HELLO, first.choices[0].message, {"role": "user", "content": "And then?"}]
    said = client.chat.completions.create(model="chat", messages=messages)
    assert said.choices[0].message.content == "You said: And then?"


def test_chat_stream(client):
    stream = client.chat.completions.create(
        model="chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "You said: Hello there"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 5 and not chunks[-1].choices


def test_chat_stream_helper(client):
    with client.chat.completions.stream(model="chat", messages=HELLO) as stream:
        for _ in stream:
            pass
        said = stream.get_final_completion()
    assert said.choices[0].message.content == "You said: Hello there"


def test_tools(client):
    function = {"name": "weather", "description": "tells", "parameters": {"type": "object"}}
    asked = {"model": "chat", "tools": [{"type": "function", "function": function}]}
    messages = [{"role": "user", "content": CALL}]
    said = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert said.finish_reason == "tool_calls"
    (call,) = said.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Paris"}')
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    then = client.chat.completions.create(messages=[*HELLO, said.message, result], **asked)
    assert "rain" in then.choices[0].message.content
    with client.chat.completions.stream(messages=messages, **asked) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0]
    assert streamed.message.tool_calls[0].function.arguments == '{"city":"Paris"}'
    assert streamed.finish_reason == "tool_calls"


class City(pydantic.BaseModel):
    name: str
    millions: float


CITY = '{"name": "Paris", "millions": 2.1}'


def test_answers_in_a_form(client):
    # The network that only behaves like one says what it is told, where it is held to a form.
    messages = [{"role": "user", "content": CITY}]
    said = client.chat.completions.parse(model="chat", messages=messages, response_format=City)
    assert said.choices[0].message.parsed == City(name="Paris", millions=2.1)
    said = client.chat.completions.create(model="chat", messages=messages, response_format={"type": "json_object"})
    assert said.choices[0].message.content == CITY
    with client.chat.completions.stream(model="chat", messages=messages, response_format=City) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.parsed.name == "Paris"
    said = client.responses.parse(model="chat", input=CITY, text_format=City)
    assert said.output_parsed == City(name="Paris", millions=2.1)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=messages, response_format={"type": "grammar"})
    assert refused.value.param == "response_format.type"


def test_calls_that_are_forced(client):
    tools = [openai.pydantic_function_tool(City, name="weather")]
    assert tools[0]["function"]["strict"]
    for choice in ["required", {"type": "function", "function": {"name": "weather"}}]:
        said = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": CALL}], tools=tools, tool_choice=choice
        ).choices[0]
        assert said.finish_reason == "tool_calls" and said.message.content is None
        assert said.message.tool_calls[0].function.arguments == '{"city":"Paris"}'
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=HELLO, tool_choice="required")
    assert refused.value.param == "tool_choice"
    said = client.responses.create(
        model="chat",
        input=CALL,
        tools=[{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}],
        tool_choice={"type": "function", "name": "weather"},
    )
    assert said.output[-1].type == "function_call"


def test_responses_tools(client):
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]
    said = client.responses.create(model="chat", input=CALL, tools=tools)
    call = next(item for item in said.output if item.type == "function_call")
    assert (call.name, call.arguments) == ("weather", '{"city":"Paris"}')
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    given = [{"role": "user", "content": "How is it?"}, *said.output, output]
    assert "rain" in client.responses.create(model="chat", input=given, tools=tools).output_text
    with client.responses.stream(model="chat", input=CALL, tools=tools) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert [item.type for item in final.output][-1] == "function_call"


def test_pings_are_not_noticed(slow_gateway):
    client = openai.OpenAI(base_url=f"{slow_gateway}/v1", api_key="none is needed")
    stream = client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "You said: Hello there"


def test_many_at_once(gateway):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{gateway}/v1", api_key=KEY) as client:
            calls = [
                client.chat.completions.create(
                    model="chat", messages=[{"role": "user", "content": f"number {n}"}]
                )
                for n in range(100)
            ]
            return await asyncio.gather(*calls)

    for n, said in enumerate(asyncio.run(ask())):
        assert said.choices[0].message.content == f"You said: number {n}"


def test_completions(client):
    said = client.completions.create(model="plain", prompt=["a", "b"], max_tokens=9)
    assert [choice.text for choice in said.choices] == ["You said: a", "You said: b"]
    stream = client.completions.create(model="plain", prompt="a", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "You said: a"


def test_responses(client):
    said = client.responses.create(model="chat", input="Hello", instructions="Be brief.", store=False)
    assert said.output_text == "You said: Hello"
    assert said.status == "completed" and said.usage.output_tokens == 4
    again = client.responses.create(
        model="chat", input=[{"role": "user", "content": "Hi"}, *said.output, {"role": "user", "content": "So?"}]
    )
    assert again.output_text == "You said: So?"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="chat", input="a", previous_response_id=said.id)
    assert refused.value.param == "previous_response_id"


def test_responses_stream(client):
    events = list(client.responses.create(model="chat", input="Hello", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "You said: Hello"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "You said: Hello"
    with client.responses.stream(model="chat", input="Hello") as stream:
        assert stream.get_final_response().output_text == "You said: Hello"


def test_responses_stream_fails(client):
    events = list(client.responses.create(model="chat", input="reject", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "failed"


def test_embeddings(client):
    # The client asks for base64 by itself, and gives floats.
    said = client.embeddings.create(model="embed", input=["a", "bb"])
    assert [entry.embedding for entry in said.data] == [[1, 0.5, -1, 0.25], [2, 0.5, -1, 0.25]]
    floats = client.embeddings.create(model="embed", input="abc", encoding_format="float", dimensions=4)
    assert floats.data[0].embedding == [3, 0.5, -1, 0.25]
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="embed", input="a", dimensions=2)
    assert refused.value.param == "dimensions"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("seed", 1), ("n", 2), ("logprobs", True)],
)
def test_what_is_not_honoured(client, parameter, value):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=HELLO, **{parameter: value})
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.param == parameter
    assert refused.value.type == "invalid_request_error"


def test_what_is_wrong(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=[])
    assert refused.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=HELLO, extra_body={"frobnicate": 1})
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "frobnicate")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "x" * 5000}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert refused.value.code == "model_not_found"


def ask(text):
    return [{"role": "user", "content": text}]


def test_what_fails(client):
    for text, error, code in [
        ("expire", openai.InternalServerError, "expired"),
        ("reject", openai.InternalServerError, "rejected"),
        ("unanswerable", openai.BadRequestError, "context_length_exceeded"),
    ]:
        with pytest.raises(error) as failed:
            client.chat.completions.create(model="chat", messages=ask(text))
        assert failed.value.code == code
        assert failed.value.response.json()["consilience"]["request"] > 0
        # A stream breaks with an error, after what it had.
        with pytest.raises(openai.APIError) as failed:
            list(client.chat.completions.create(model="chat", messages=ask(text), stream=True))
        assert failed.value.code == code


def test_nothing_is_asked_twice_by_retries(gateway):
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=KEY, max_retries=5)
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="chat", messages=ask("expire"))
    first = failed.value.response.json()["consilience"]["request"]
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="chat", messages=ask("expire"))
    assert failed.value.response.json()["consilience"]["request"] == first + 1


def test_a_full_network(gateway):
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.RateLimitError) as full:
        client.chat.completions.create(model="chat", messages=ask("busy"))
    assert full.value.response.headers["retry-after"] == "7"


def test_keys_and_budgets(gateway, poor_gateway):
    with pytest.raises(openai.AuthenticationError) as refused:
        openai.OpenAI(base_url=f"{gateway}/v1", api_key="wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.RateLimitError) as refused:
        poor = openai.OpenAI(base_url=f"{poor_gateway}/v1", api_key=KEY)
        poor.chat.completions.create(model="chat", messages=HELLO)
    assert refused.value.code == "insufficient_quota"


def test_idempotency(client):
    def call(text):
        return client.chat.completions.create(
            model="chat", messages=ask(text), extra_headers={"Idempotency-Key": "once"}
        )

    assert call("Hello").id == call("Hello").id
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        call("Goodbye")
    assert refused.value.code == "idempotency_key_reused"


def test_a_client_that_gives_up_waiting_asks_once(slow_gateway):
    client = openai.OpenAI(base_url=f"{slow_gateway}/v1", api_key="none is needed", max_retries=5, timeout=0.35)
    first = client.chat.completions.create(model="chat", messages=ask("a"))
    second = client.chat.completions.create(model="chat", messages=ask("b"))
    assert second.consilience["request"] == first.consilience["request"] + 1
