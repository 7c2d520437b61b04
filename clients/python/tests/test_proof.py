"""Headers and storage proofs, as a node gave them (data/request.json: a request on a chain of one validator)."""

import json
from pathlib import Path

import pytest

from consilience import ProofError
from consilience.layouts import Text, read_output, read_question, read_request, request_key
from consilience.proof import Header, read_proof
from consilience.scale import Reader, ScaleError, compact

RECORD = json.loads((Path(__file__).parent / "data" / "request.json").read_text())
NUMBER = RECORD["request"]
NODES = [bytes.fromhex(node[2:]) for node in RECORD["proof"]]


@pytest.fixture
def root():
    return Header.read(RECORD["header"]).state_root


def test_a_headers_hash_follows_from_it():
    header = Header.read(RECORD["header"])
    assert "0x" + header.hash.hex() == RECORD["hash"] and header.number == int(RECORD["header"]["number"], 16)
    for name in ("parentHash", "stateRoot", "extrinsicsRoot"):
        other = RECORD["header"] | {name: "0x" + "11" * 32}
        assert Header.read(other).hash != header.hash
    assert Header.read(RECORD["header"] | {"number": "0x1"}).hash != header.hash
    assert Header.read(RECORD["header"] | {"digest": {"logs": []}}).hash != header.hash
    for wrong in ({}, {"stateRoot": "0x11"}, {"number": "many"}, {"digest": None}):
        with pytest.raises(ProofError):
            Header.read({**RECORD["header"], **wrong} if wrong else {})


def test_what_stands_on_chain_is_proven(root):
    request = read_request(read_proof(root, NODES, request_key("Requests", NUMBER)))
    told = RECORD["told"]
    assert request.state == "final" == told["state"]
    assert request.model == told["model"] and request.assurance == ("committee", 2)
    answer = read_output(read_proof(root, NODES, request_key("Outputs", NUMBER)))
    said = RECORD["answer"]
    assert answer == Text(said["text"], tuple(said["tokens"]), said["finish_reason"])
    question = read_question(read_proof(root, NODES, request_key("Inputs", NUMBER)))
    assert question.messages == (("user", "What is the capital of France?"),)


def test_that_nothing_stands_there_is_proven_too(root):
    assert read_proof(root, NODES, request_key("Requests", 99_999)) is None


def test_a_proof_without_one_of_its_nodes_proves_nothing(root):
    # Each node is needed for some key, and whoever leaves one out cannot say that nothing stands there.
    keys = [request_key(item, NUMBER) for item in ("Requests", "Inputs", "Outputs", "Rounds")]
    keys.append(request_key("Requests", 99_999))
    for i in range(len(NODES)):
        lacking = NODES[:i] + NODES[i + 1 :]
        with pytest.raises(ProofError, match="lacks the node"):
            [read_proof(root, lacking, key) for key in keys]


def test_a_changed_bit_proves_nothing(root):
    key = request_key("Outputs", NUMBER)
    whole = read_proof(root, NODES, key)
    for i, node in enumerate(NODES):
        for at in (0, len(node) // 2, len(node) - 1):
            changed = bytearray(node)
            changed[at] ^= 1
            try:
                found = read_proof(root, [*NODES[:i], bytes(changed), *NODES[i + 1 :]], key)
            except ProofError:
                continue
            # A node that is not on the way to this key.
            assert found == whole
    with pytest.raises(ProofError):
        read_proof(b"\0" * 32, NODES, key)


def test_what_a_later_runtime_writes_is_not_misread(root):
    answer = read_proof(root, NODES, request_key("Outputs", NUMBER))
    for wrong in (answer + b"\0", answer[:-1], b"\7" + answer[1:]):
        with pytest.raises(ScaleError):
            read_output(wrong)


@pytest.mark.parametrize("value", [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, 1 << 64])
def test_compact_numbers_come_back(value):
    reader = Reader(compact(value))
    assert reader.compact() == value
    reader.end()
