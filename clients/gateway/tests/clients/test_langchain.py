"""LangChain's classes for OpenAI."""

import pytest
from conftest import CALL, KEY
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def model(gateway, request):
    return ChatOpenAI(
        base_url=f"{gateway}/v1", api_key=KEY, model="chat", temperature=0, use_responses_api=request.param
    )


def test_chat(model):
    said = model.invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    assert said.text == "You said: Hello"
    assert said.usage_metadata["output_tokens"] == 4


def test_stream(model):
    assert "".join(chunk.text for chunk in model.stream("Hello")) == "You said: Hello"


def test_batch(model):
    said = model.batch([f"number {n}" for n in range(8)])
    assert [message.text for message in said] == [f"You said: number {n}" for n in range(8)]


def test_a_conversation_goes_on(model):
    first = model.invoke("Hello")
    said = model.invoke([HumanMessage("Hello"), first, HumanMessage("And then?")])
    assert said.text == "You said: And then?"


def test_tools(model):
    def weather(city: str) -> str:
        """Tells what the weather is."""
        return f"rain in {city}"

    bound = model.bind_tools([weather])
    said = bound.invoke(CALL)
    (call,) = said.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    assert "rain in Paris" in bound.invoke([HumanMessage("How is it?"), said, result]).text


def test_embeddings(gateway):
    model = OpenAIEmbeddings(
        base_url=f"{gateway}/v1", api_key=KEY, model="embed", check_embedding_ctx_length=False
    )
    assert model.embed_documents(["a", "bb"]) == [[1, 0.5, -1, 0.25], [2, 0.5, -1, 0.25]]
    assert model.embed_query("abc")[0] == 3
