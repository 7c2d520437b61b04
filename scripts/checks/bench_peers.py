"""Other programs that generate text, for bench_engine.py: a command a line, what came of it as a line of JSON.

    bench_peers.py genai FOLDER THREADS     onnxruntime-genai on a graph of the hub's layout, as scripts/setup makes it
    bench_peers.py llama GGUF THREADS       llama.cpp

    decode PROMPT TOKENS                    PROMPT comma-separated tokens; the answer that is most likely, never ended
    prefill TOKENS                          and one token of an answer
"""

import json
import pathlib
import sys
import tempfile
import time

import numpy as np


class GenAi:
    def __init__(self, folder, threads):
        import onnxruntime_genai

        self.library = onnxruntime_genai
        folder = pathlib.Path(folder)
        self.folder = tempfile.TemporaryDirectory()  # the library wants its own configuration beside the graph
        for file in folder.glob("model.onnx*"):
            (pathlib.Path(self.folder.name) / file.name).symlink_to(file)
        config = pathlib.Path(self.folder.name) / "genai_config.json"
        config.write_text(json.dumps(self.config(folder, threads)))
        self.model = onnxruntime_genai.Model(self.folder.name)

    @staticmethod
    def config(folder, threads):
        of_hub = json.loads((folder / "config.json").read_text())
        card = json.loads((folder / "model.json").read_text())
        special = ("bos_token_id", "eos_token_id", "pad_token_id")
        return {
            "model": {
                "type": of_hub["model_type"],
                "vocab_size": of_hub["vocab_size"],
                "context_length": of_hub["max_position_embeddings"],
                **{name: of_hub[name] for name in special},
                "decoder": {
                    "session_options": {
                        "intra_op_num_threads": threads,
                        "graph_optimization_level": "ORT_ENABLE_" + card["numerics"]["optimization"].upper(),
                        "session.intra_op.allow_spinning": "0",
                        "provider_options": [],
                    },
                    "filename": "model.onnx",
                    "head_size": of_hub["head_dim"],
                    "hidden_size": of_hub["hidden_size"],
                    "num_attention_heads": of_hub["num_attention_heads"],
                    "num_hidden_layers": of_hub["num_hidden_layers"],
                    "num_key_value_heads": of_hub["num_key_value_heads"],
                    "inputs": {
                        "input_ids": "input_ids",
                        "attention_mask": "attention_mask",
                        "position_ids": "position_ids",
                        "past_key_names": "past_key_values.%d.key",
                        "past_value_names": "past_key_values.%d.value",
                    },
                    "outputs": {
                        "logits": "logits",
                        "present_key_names": "present.%d.key",
                        "present_value_names": "present.%d.value",
                    },
                },
            },
            # A graph whose cache grows has no buffer for past and present together.
            "search": {"max_length": of_hub["max_position_embeddings"], "past_present_share_buffer": False},
        }

    def run(self, prompt, tokens):
        parameters = self.library.GeneratorParams(self.model)
        length = len(prompt) + tokens
        parameters.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = self.library.Generator(self.model, parameters)
        generator.append_tokens(np.array(prompt, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        return generator.get_sequence(0)[len(prompt) :].tolist()


class Llama:
    def __init__(self, path, threads):
        import llama_cpp

        self.library = llama_cpp
        self.llama = llama_cpp.Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)

    def feed(self, tokens):
        """Gives the best successor of the last."""
        self.llama.eval(tokens)
        logits = self.library.llama_get_logits_ith(self.llama.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (self.llama.n_vocab(),)).argmax())

    def run(self, prompt, tokens):
        self.llama.reset()
        answer = [self.feed(prompt)]
        while len(answer) < tokens:
            answer.append(self.feed(answer[-1:]))
        return answer


def main():
    kind, path, threads = sys.argv[1:]
    kinds: dict[str, type[GenAi] | type[Llama]] = {"genai": GenAi, "llama": Llama}
    peer = kinds[kind](path, int(threads))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["decode", prompt, tokens]:
                prompt, tokens = [int(t) for t in prompt.split(",")], int(tokens)
            case ["prefill", tokens]:
                prompt, tokens = [100 + i % 1_000 for i in range(int(tokens))], 1
        began = time.perf_counter()
        answer = peer.run(prompt, tokens)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "tokens": len(answer), "answer": answer}), flush=True)


if __name__ == "__main__":
    main()
