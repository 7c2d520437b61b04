"""What a node may say that is not so: a chain that replays what a real node said, with a lie in it."""

import asyncio
import copy
import json
import stat
import struct
import sys
from pathlib import Path

import pytest

from consilience import ChatReply, ConsilienceError, EmbedReply, Tensor, verify
from consilience.chain import Chain
from consilience.verification import _is_answer, _quoted

RECORD = json.loads((Path(__file__).parent / "data" / "request.json").read_text())
NUMBER, TEXT = RECORD["request"], RECORD["answer"]["text"]
QUESTION = "What is the capital of France?"
#: Two more members, which the record of a chain with one validator lacks.
VERIFIERS = ["5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty", "5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy"]


class Replay(Chain):
    def __init__(self):
        super().__init__("ws://127.0.0.1:1")
        self.record = copy.deepcopy(RECORD)
        members = self.record["decoded"]["Rounds"]["members"]
        self.members = members + [copy.deepcopy(members[0]) | {"who": who} for who in VERIFIERS]
        self.record["decoded"]["Rounds"]["members"] = self.members

    async def call(self, method, parameters):
        return {
            "chain_getFinalizedHead": self.record["hash"],
            "chain_getHeader": self.record["header"],
            "state_getReadProof": {"at": self.record["hash"], "proof": self.record["proof"]},
            "inference_request": self.record["told"],
        }[method]

    async def decode(self, item, data, at):
        return self.record["decoded"][item]


def found(chain, request=NUMBER, **given):
    return asyncio.run(verify(chain, request, **given))


def failed(found):
    return [check.name for check in found.checks if not check.holds]


@pytest.fixture
def chain():
    return Replay()


def test_an_honest_node(chain):
    said = found(chain, answer=TEXT, question=QUESTION)
    assert said.holds and bool(said), str(said)
    assert [check.name for check in said.checks] == [
        "block",
        "proof",
        "status",
        "answer on chain",
        "answer given",
        "question",
        "node",
        "money",
        "committee",
        "evidence",
    ]
    assert [what.split(":")[0] for what in said.not_checked] == [
        f"that block {said.block.number} is final",
        "the metadata by which committee, evidence and money were read",
        "that the model says this",
    ]
    # What is not given is not checked, and that is said.
    assert len(found(chain).not_checked) == 5
    assert not any("is final" in what for what in found(chain, at=RECORD["hash"]).not_checked)


def test_another_header_is_found_out(chain):
    chain.record["header"]["stateRoot"] = "0x" + "11" * 32
    assert failed(found(chain)) == ["block"]


def test_a_block_without_a_proof_is_found_out(chain):
    chain.record["proof"] = chain.record["proof"][1:]
    assert failed(found(chain)) == ["proof"]


def test_the_nodes_json_is_not_what_counts(chain):
    chain.record["told"]["output"]["text"] = "Paris."
    said = found(chain, answer="Paris.")
    assert failed(said) == ["answer given", "node"] and said.answer.text == TEXT
    chain = Replay()
    chain.record["told"]["state"] = "rejected"
    assert failed(found(chain)) == ["node"]
    chain.record["told"] = None
    assert failed(found(chain)) == ["node"]


def test_a_reply_of_a_gateway(chain):
    own = {"consilience": {"request": NUMBER}}
    assert found(chain, ChatReply(own, text=TEXT)).holds
    assert failed(found(chain, ChatReply(own, text=TEXT.strip()))) == ["answer given"]
    assert failed(found(chain, EmbedReply(own, embeddings=((1.0,),)))) == ["answer given"]
    with pytest.raises(ValueError, match="no number of one request"):
        found(chain, ChatReply({"consilience": {"lane": "session"}}, text=TEXT))
    with pytest.raises(ValueError, match="no number of one request"):
        found(chain, EmbedReply({"consilience": {"requests": [{"request": 1}, {"request": 2}]}}))


def test_vectors_are_compared_in_their_own_precision():
    proven = {"embedding": Tensor("FP32", (2,), struct.pack("<2f", 0.1, 1 / 3))}
    for given, same in [
        # As a gateway may print an FP32, and as numpy and the chain read it.
        ([0.1, 0.33333334], True),
        (proven["embedding"].elements(), True),
        ([0.1, 0.3333334], False),
        ([0.1], False),
        ([0.1, 1 / 3, 0], False),
    ]:
        assert _is_answer(given, proven) == same
        assert _is_answer(EmbedReply({}, embeddings=(tuple(given),)), proven) == same
    assert not _is_answer([0.1, 1 / 3], {**proven, "other": proven["embedding"]})
    assert _is_answer({"embedding": Tensor("FP32", (2,), [0.1, 1 / 3])}, {"fetch": proven["embedding"]})
    assert not _is_answer({"embedding": Tensor("FP64", (2,), [0.1, 1 / 3])}, proven)


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        (QUESTION, True),
        ([{"role": "user", "content": QUESTION}], True),
        ([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}], True),
        ([{"role": "system", "content": QUESTION}], False),
        ([{"role": "user", "content": QUESTION}] * 2, False),
        (QUESTION[:-1], False),
        ({"prompt": QUESTION}, True),
        ({"prompt": "other"}, False),
    ],
)
def test_what_was_asked(chain, question, holds):
    assert found(chain, question=question).holds == holds


def test_committees_that_do_not_check(chain):
    everybody = chain.members
    for members, says in [
        (everybody[:1], "nobody else measured it"),
        (everybody[:2], "2 were asked for"),
        ([*everybody[:2], everybody[2] | {"progress": "Waiting"}], f"{VERIFIERS[1]} did not show"),
        ([*everybody[:2], everybody[1]], VERIFIERS[0]),
        # Enough of them, and one counted twice.
        ([*everybody, everybody[1]], VERIFIERS[0]),
    ]:
        chain.record["decoded"]["Rounds"]["members"] = members
        said = found(chain)
        assert failed(said) == ["committee"]
        assert says in str(said)


def test_evidence_that_speaks_against_the_answer(chain):
    evidence = chain.members[2]["progress"]["Revealed"]
    evidence["verdict"]["deviations"] = 1
    said = found(chain)
    assert failed(said) == ["evidence"] and f"{VERIFIERS[1]} call the answer wrong" in str(said)
    evidence["verdict"]["deviations"] = 0
    evidence["fingerprint"] = {"Digest": "0x" + "11" * 16}
    assert failed(found(chain)) == ["evidence"]
    # A tolerant class is not judged here, and that is said.
    for member in chain.members:
        member["progress"]["Revealed"]["fingerprint"] = {"Values": {"tag": 0, "values": [1]}}
    said = found(chain)
    assert said.holds and any("distances" in what for what in said.not_checked)


def test_money_that_does_not_add_up(chain):
    chain.record["decoded"]["Requests"]["refunded"] += 1
    assert failed(found(chain)) == ["money"]


def test_control_characters_of_strangers_do_not_reach_the_terminal(chain):
    said = found(chain, question="x")
    assert "\x1b" not in str(said)
    assert _quoted("a\x1b[2Jb\u202e") == '"a\\u001b[2Jb\\u202e"'


def program(folder, prints, code=0):
    """A program in the node's place, which keeps its arguments, says one line and ends."""
    path = folder / "consilience"
    lines = [
        f"#!{sys.executable}",
        "import sys",
        f"open({str(folder / 'arguments')!r}, 'w').write(' '.join(sys.argv[1:]))",
        f"print({prints!r})",
        f"sys.exit({code})",
    ]
    path.write_text("\n".join(lines))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_nodes_program_runs_the_model(chain, tmp_path):
    binary = program(tmp_path, json.dumps({"verdict": "right", "reason": None}))
    said = found(chain, binary=binary, binary_arguments=["--base-path", "/there"])
    assert said.holds and said.checks[-1].name == "model" and said.model_run["verdict"] == "right"
    assert not any("the model says" in what for what in said.not_checked)
    asked = (tmp_path / "arguments").read_text()
    assert asked == f"verify {NUMBER} --url ws://127.0.0.1:1 --json --base-path /there"
    for verdict in ("wrong", "unchecked"):
        binary = program(tmp_path, json.dumps({"verdict": verdict, "reason": "because"}), 1)
        said = found(chain, binary=binary)
        assert failed(said) == ["model"] and "because" in str(said)
    with pytest.raises(ConsilienceError, match="ended with 3"):
        found(chain, binary=program(tmp_path, "no JSON", 3))
