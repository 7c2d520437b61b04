"""A table of what the engine's bench measured on CUDA, for scripts/cuda-check.

    cuda_table.py FOLDER MODEL ...      FOLDER/MODEL.json is the bench's line, FOLDER/MODEL.peak the device's memory in MiB
"""

import json
import pathlib
import sys

ROWS = [
    ("provider", lambda f: f["provider"]),
    ("load, s", lambda f: f"{f['load_s']:.1f}"),
    ("decode, tokens/s", lambda f: f"{f['decode_tokens_per_s']:.1f}"),
    ("prefill, tokens/s", lambda f: f"{f['prefill_tokens_per_s']:.0f}"),
    ("check ÷ generate", lambda f: f"{f['check_over_generate']:.4f} ({f['answer_tokens']} tokens)"),
    ("largest margin of its own answer", lambda f: f"{f['margin_max']:.4f}"),
    ("peak memory of the host, MB", lambda f: f"{f['peak_resident_bytes'] / 1e6:.0f}"),
    ("peak memory of the device, MiB", lambda f: f["peak_device_mib"]),
]


def main():
    folder, models = pathlib.Path(sys.argv[1]), sys.argv[2:]
    found = []
    for model in models:
        if not (folder / f"{model}.json").exists():
            print(f"{model} could not be measured", file=sys.stderr)
            continue
        figures = json.loads((folder / f"{model}.json").read_text())
        peak = folder / f"{model}.peak"
        figures["peak_device_mib"] = peak.read_text().strip() if peak.exists() else "–"
        figures["model"] = model
        found.append(figures)
    print("| |", " | ".join(f["model"] for f in found), "|")
    print("|---" * (len(found) + 1) + "|")
    for name, show in ROWS:
        print(f"| {name} |", " | ".join(str(show(f)) for f in found), "|")


if __name__ == "__main__":
    main()
