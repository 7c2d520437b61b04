# ONNX's own backend test data: models with inputs and the outputs that every runtime must give. They are part of the Python
# package onnx; the digest is over all files of the folders that are used.

CONFORMANCE="$CONSILIENCE_HOME/conformance"
CONFORMANCE_FOLDERS="simple pytorch-converted pytorch-operator"
CONFORMANCE_DIGEST=04cc25b2d36bb5a2de5c2738e9dcd67b806dbf9f02bf64bc9fe3aea01551af21

# conformance_digest FOLDER: of the names and contents of all files.
conformance_digest() {
	# shellcheck disable=SC2086
	(cd "$1" && find $CONFORMANCE_FOLDERS -type f -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -d' ' -f1)
}

setup_conformance() {
	local data scratch folder found
	if [ -d "$CONFORMANCE" ] && [ "$(conformance_digest "$CONFORMANCE")" = "$CONFORMANCE_DIGEST" ]; then
		say "conformance: ONNX's test data in $CONFORMANCE"
		return
	fi
	setup_python
	data="$("$PYTHON_ENVIRONMENT/bin/python" -c 'import importlib.util as i, os; print(os.path.dirname(i.find_spec("onnx").origin))')/backend/test/data"
	found="$(conformance_digest "$data")"
	[ "$found" = "$CONFORMANCE_DIGEST" ] ||
		die "$data has digest $found, expected $CONFORMANCE_DIGEST: delete $PYTHON_ENVIRONMENT and run scripts/setup again"
	scratch="$(mktemp -d "$CONSILIENCE_HOME/conformance.XXXXXX")"
	for folder in $CONFORMANCE_FOLDERS; do cp -r "$data/$folder" "$scratch/"; done
	chmod 755 "$scratch"
	rm -rf "$CONFORMANCE"
	mv "$scratch" "$CONFORMANCE"
	say "conformance: ONNX's test data in $CONFORMANCE"
}
