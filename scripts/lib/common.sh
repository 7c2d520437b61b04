# Words and places that every script shares. Sourced, never run.

set -euo pipefail

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"

# Everything that is made on this machine and is no part of the clone lives in one folder: the ONNX Runtime library, the
# models, the Python environment, the fallback toolchain and the development network.
CONSILIENCE_HOME="${CONSILIENCE_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/consilience}"
export CONSILIENCE_HOME

# Build output lives outside the clone, so that a second clone does not build everything again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/consilience/target}"

# The node and its engine find the library here; whoever has another sets the variable.
ONNXRUNTIME_VERSION=1.31.1
export ORT_DYLIB_PATH="${ORT_DYLIB_PATH:-$CONSILIENCE_HOME/onnxruntime/$ONNXRUNTIME_VERSION/libonnxruntime.so}"

# Without it ONNX Runtime tells Microsoft of every process that loads it. The node says so to its own.
export ORT_DISABLE_TELEMETRY=1

PYTHON_ENVIRONMENT="$CONSILIENCE_HOME/python"
MODELS="$CONSILIENCE_HOME/models"

# Progress goes to standard error: standard output belongs to results that a program may read.
say() { printf '%s\n' "$*" >&2; }
step() { printf '\n== %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

# check_sha256 FILE DIGEST: fails with both digests named.
check_sha256() {
	local found
	found="$(sha256_of "$1")"
	[ "$found" = "$2" ] || die "$1 has SHA-256 $found, expected $2: delete it and run scripts/setup again"
}
