"""The official clients in the session lane."""

import hashlib
import time

import anthropic
import openai
import pytest
from conftest import KEY, running

# A word each tenth of a second.
STORY = " ".join(f"word{n}" for n in range(40))


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(session_gateway):
    return openai.OpenAI(base_url=f"{session_gateway}/v1", api_key="none is needed", max_retries=0)


@pytest.fixture
def claude(session_gateway):
    return anthropic.Anthropic(base_url=session_gateway, api_key="none is needed", max_retries=0)


def figures(gateway):
    text = openai.OpenAI(base_url=gateway, api_key="none").get("/metrics", cast_to=str)
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def came_as_it_was_said(told):
    """Whether text came in pieces, the first before the validator had signed. A slow machine may be sent several words at once."""
    assert "".join(piece for piece, _ in told) == f"You said: {STORY}"
    assert len(told) > 2
    assert told[0][1]["status"] == "streaming" and not told[0][1]["checked"]


def test_a_chat_streams_as_it_is_said(client):
    chunks = list(client.chat.completions.create(model="chat", messages=ask(STORY), stream=True))
    came_as_it_was_said([(c.choices[0].delta.content, c.consilience) for c in chunks if c.choices[0].delta.content])
    said = chunks[-1].consilience
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (said["lane"], said["status"], said["right"], said["of"]) == ("session", "checked", 2, 2)
    assert all(checker["signature"] for checker in said["checkers"])


def test_messages_stream_as_they_are_said(claude):
    events = list(claude.messages.create(model="chat", max_tokens=128, messages=ask(STORY), stream=True))
    came_as_it_was_said([(e.delta.text, e.consilience) for e in events if e.type == "content_block_delta"])
    with claude.messages.stream(model="chat", max_tokens=64, messages=ask("Hello")) as stream:
        assert "".join(stream.text_stream) == "You said: Hello"
        assert stream.get_final_message().stop_reason == "end_turn"


def test_responses_stream_as_they_are_said(client):
    events = list(client.responses.create(model="chat", input=STORY, stream=True))
    came_as_it_was_said([(e.delta, e.consilience) for e in events if e.type == "response.output_text.delta"])
    assert events[-1].type == "response.completed"
    assert events[-1].response.consilience["status"] == "checked"


def test_completions(client):
    said = client.completions.create(model="plain", prompt=["a", "b"])
    assert [choice.text for choice in said.choices] == ["You said: a", "You said: b"]
    assert said.consilience["lane"] == "session" and said.consilience["checked"]


def test_what_is_waited_for(client):
    for wait, status in [("streaming", "answered"), ("provisional", "answered"), ("checked", "checked")]:
        said = client.chat.completions.create(
            model="chat", messages=ask("a"), extra_body={"consilience": {"wait": wait}}
        )
        assert said.consilience["status"] == status
    with pytest.raises(openai.BadRequestError, match="use lane direct") as refused:
        client.chat.completions.create(
            model="chat", messages=ask("a"), extra_body={"consilience": {"wait": "final", "lane": "session"}}
        )
    assert refused.value.param == "consilience.wait"


def test_the_lane_is_chosen(client):
    choices: list[dict] = [
        {"extra_headers": {"consilience-lane": "direct"}},
        {"extra_body": {"consilience": {"lane": "direct"}}},
        {"extra_body": {"consilience": {"wait": "final"}}},
    ]
    for options in choices:
        said = client.chat.completions.create(model="chat", messages=ask("a"), **options)
        assert said.consilience["lane"] == "direct" and said.consilience["request"] > 0


def test_without_a_channel_there_is_no_lane(slow_gateway):
    client = openai.OpenAI(base_url=f"{slow_gateway}/v1", api_key="none is needed")
    with pytest.raises(openai.BadRequestError, match="--session-deposit") as refused:
        client.chat.completions.create(
            model="chat", messages=ask("a"), extra_headers={"consilience-lane": "session"}
        )
    assert refused.value.code == "unsupported_parameter"


def test_refuted(client, claude):
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="chat", messages=ask("refute"))
    assert (failed.value.status_code, failed.value.code) == (502, "refuted")
    text = []
    with pytest.raises(openai.APIError) as failed:
        for chunk in client.chat.completions.create(model="chat", messages=ask("refute"), stream=True):
            assert chunk.choices[0].finish_reason is None
            text.append(chunk.choices[0].delta.content)
    assert failed.value.code == "refuted" and "".join(text) == "You said: refute"
    refuted = pytest.raises(anthropic.APIStatusError, match="do not rely on it")
    with refuted, claude.messages.stream(model="chat", max_tokens=9, messages=ask("refute")) as stream:
        list(stream.text_stream)
    events = list(client.responses.create(model="chat", input="refute", stream=True))
    assert events[-1].type == "response.failed"


def test_another_validator_goes_on_before_anything_is_shown(client):
    chunks = list(client.chat.completions.create(model="chat", messages=ask("failover"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "You said: failover"
    assert chunks[-1].consilience["status"] == "checked"


def test_and_not_after_that(client):
    text = []
    with pytest.raises(openai.APIError) as failed:
        for chunk in client.chat.completions.create(model="chat", messages=ask("replace"), stream=True):
            text.append(chunk.choices[0].delta.content)
    assert failed.value.code == "answer_replaced" and "".join(text) == "You "
    # A reply in one piece shows the second alone.
    said = client.chat.completions.create(model="chat", messages=ask("replace"))
    assert said.choices[0].message.content == "You said: replace"


def test_nobody_answers(client):
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="chat", messages=ask("silence"))
    assert (failed.value.status_code, failed.value.code) == (502, "no_answer")


def test_nobody_confirms(client):
    said = client.chat.completions.create(model="chat", messages=ask("unchecked"))
    assert said.consilience["status"] == "answered" and not said.consilience["checked"]


def test_a_channel_without_funds(client):
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(
            model="chat", messages=ask("no funds"), extra_headers={"consilience-lane": "session"}
        )
    assert (failed.value.status_code, failed.value.code) == (503, "gateway_out_of_funds")
    said = client.chat.completions.create(model="chat", messages=ask("no funds"))
    assert said.consilience["lane"] == "direct"


def test_who_hangs_up_pays_for_no_more(session_gateway, client):
    def cut():
        return float(figures(session_gateway).get('consilience_gateway_requests_ended_total{state="answered"}', 0))

    before = cut()
    stream = client.chat.completions.create(model="chat", messages=ask("word " * 600), stream=True)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 20
    # Whole it would take a minute.
    while cut() == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_same_key_is_the_same_question(client):
    key = {"Idempotency-Key": "a key"}
    said = [client.chat.completions.create(model="chat", messages=ask("a"), extra_headers=key) for _ in range(2)]
    assert said[0].consilience == said[1].consilience and said[0].id == said[1].id


def test_a_budget_is_kept(tmp_path):
    keys = tmp_path / "keys.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    # One question may cost 500 of the smallest unit, and costs 100.
    keys.write_text(f'[[keys]]\nname = "tests"\nsha256 = "{digest}"\nbudget_per_day = "0.00000000055"\n')
    with running(tmp_path, "--session", "--keys", str(keys)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
        said = client.chat.completions.create(model="chat", messages=ask("a"))
        assert said.consilience["fee"] == {"held": "500", "paid": "100", "refunded": "400", "unit": "1e-12 CSL"}
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="chat", messages=ask("a"))
        assert refused.value.code == "insufficient_quota"


def test_a_record_is_given(client):
    said = client.chat.completions.create(model="chat", messages=ask("a"), extra_body={"consilience": {"record": True}})
    assert said.consilience["record"]["answer"] == "You said: a"


def test_models_tell_of_the_lane(client):
    client.chat.completions.create(model="chat", messages=ask(STORY))
    lane = client.models.retrieve("chat").consilience["session"]
    assert lane["available"] and lane["validators"] == 3
    assert lane["measured"]["median_seconds_to_first_token"] > 0
    assert lane["measured"]["median_tokens_per_second"] > 0
