"""Anthropic's own client."""

import anthropic
import pytest
from conftest import CALL, KEY

TOOLS = [{"name": "weather", "description": "tells", "input_schema": {"type": "object"}}]


def ask(text):
    return {"model": "chat", "max_tokens": 64, "messages": [{"role": "user", "content": text}]}


@pytest.fixture
def client(gateway):
    return anthropic.Anthropic(base_url=gateway, api_key=KEY)


def test_message(client):
    said = client.messages.create(**ask("Hello"), system="Be brief.", extra_body={"temperature": 0.5, "top_k": 5})
    assert said.content[0].text == "You said: Hello"
    assert said.stop_reason == "end_turn" and said.usage.output_tokens == 4
    assert said.consilience["checked"]
    stopped = client.messages.create(**ask("one two"), stop_sequences=["two"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "two")


def test_token_of_authorisation(gateway):
    client = anthropic.Anthropic(base_url=gateway, auth_token=KEY, api_key=None)
    assert client.messages.create(**ask("Hello")).content[0].text == "You said: Hello"


def test_conversation(client):
    first = client.messages.create(**ask("Hello"))
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {"role": "user", "content": "And then?"},
    ]
    said = client.messages.create(model="chat", max_tokens=64, messages=messages)
    assert said.content[0].text == "You said: And then?"


def test_stream(client, slow_gateway):
    slow = anthropic.Anthropic(base_url=slow_gateway, api_key="none is needed")
    for c in (client, slow):
        with c.messages.stream(**ask("Hello")) as stream:
            assert "".join(stream.text_stream) == "You said: Hello"
            said = stream.get_final_message()
        assert said.stop_reason == "end_turn" and said.usage.output_tokens == 4


def test_tools(client):
    said = client.messages.create(**ask(CALL), tools=TOOLS)
    assert said.stop_reason == "tool_use"
    assert [block.input for block in said.content if block.type == "tool_use"] == [{"city": "Paris"}]
    results = [{"type": "tool_result", "tool_use_id": said.content[-1].id, "content": "rain"}]
    messages = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": said.content},
        {"role": "user", "content": results},
    ]
    then = client.messages.create(model="chat", max_tokens=64, messages=messages, tools=TOOLS)
    assert "rain" in then.content[0].text
    with client.messages.stream(**ask(CALL), tools=TOOLS) as stream:
        assert stream.get_final_message().content[-1].input == {"city": "Paris"}


def test_a_call_that_is_forced(client):
    for choice in [{"type": "any"}, {"type": "tool", "name": "weather"}]:
        said = client.messages.create(**ask(CALL), tools=TOOLS, tool_choice=choice)
        assert (said.stop_reason, said.content[0].type) == ("tool_use", "tool_use")


def test_what_fails(client):
    with pytest.raises(anthropic.APIStatusError) as failed:
        client.messages.create(**ask("expire"))
    assert failed.value.status_code == 504
    assert failed.value.body["error"]["type"] == "timeout_error"
    with pytest.raises(anthropic.APIStatusError) as failed, client.messages.stream(**ask("reject")) as stream:
        list(stream.text_stream)
    assert failed.value.body["error"]["type"] == "api_error"


def test_what_is_refused(client, gateway, poor_gateway):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**ask("a"), tool_choice={"type": "any"})
    assert "tool_choice asks for a call" in refused.value.body["error"]["message"]
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model="chat", max_tokens=64, messages=[])
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ask("a"), "model": "claude"})
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=gateway, api_key="wrong").messages.create(**ask("a"))
    with pytest.raises(anthropic.APIStatusError) as refused:
        anthropic.Anthropic(base_url=poor_gateway, api_key=KEY).messages.create(**ask("a"))
    assert refused.value.body["error"]["type"] == "billing_error"
    with pytest.raises(anthropic.RateLimitError):
        anthropic.Anthropic(base_url=gateway, api_key=KEY, max_retries=0).messages.create(**ask("busy"))
