# ONNX Runtime with the CUDA provider: the files inside the PyPI wheels, as for the CPU's library. NVIDIA's libraries come from
# their wheels where the system has none, and stand beside it, where the engine looks for them. No part of `all`: it takes 3 GB.

CUDA_LIST="$REPOSITORY/scripts/setup.d/cuda.txt"
CUDA_HOME="$CONSILIENCE_HOME/onnxruntime-gpu/$ONNXRUNTIME_VERSION"
CUDA_LIBRARY="$CUDA_HOME/libonnxruntime.so"
# What the provider needs of CUDA and cuDNN.
CUDA_NEEDED="libcudart.so.13 libcublasLt.so.13 libcublas.so.13 libnvrtc.so.13 libcurand.so.10 libcufft.so.12 libcudnn.so.9"
# Where wheels are looked for before they are downloaded.
CUDA_WHEELS="${CUDA_WHEELS:-}"

# cuda_packages: packages, versions and digests, a line each.
cuda_packages() { sed -n 's/^\([a-z0-9-]*\)==\([0-9.]*\) --hash=sha256:\([0-9a-f]\{64\}\)$/\1 \2 \3/p' "$CUDA_LIST"; }

# cuda_in_system: whether the loader knows all that the provider needs.
cuda_in_system() {
	local name known
	have ldconfig || return 1
	known="$(ldconfig -p)"
	for name in $CUDA_NEEDED; do grep -q "^[[:space:]]*$name " <<<"$known" || return 1; done
}

# cuda_wanted: the packages that this machine needs.
cuda_wanted() { if cuda_in_system; then cuda_packages | grep '^onnxruntime-gpu '; else cuda_packages; fi; }

# cuda_wheel PACKAGE VERSION: the wheel's path in CUDA_WHEELS, if it is there.
cuda_wheel() {
	[ -n "$CUDA_WHEELS" ] && compgen -G "$CUDA_WHEELS/${1//-/_}-$2-*.whl" | head -n 1
}

# cuda_fetch PACKAGE VERSION DIGEST FOLDER: downloads a wheel; its path on standard output.
cuda_fetch() {
	local wheel requirement
	setup_python
	say "cuda: downloading $1 $2"
	requirement="$(mktemp)"
	printf '%s==%s --hash=sha256:%s\n' "$1" "$2" "$3" >"$requirement"
	# Chosen by fixed tags, not by this machine's Python, so that everybody gets the same file.
	"$PYTHON_ENVIRONMENT/bin/python" -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
		--python-version 3.11 --implementation cp --abi cp311 --abi none --platform manylinux_2_28_x86_64 \
		--platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 -d "$4" -r "$requirement" >&2 ||
		die "pip could not download $1 $2: see its message above. Without network give the wheels (CUDA_WHEELS, or scripts/cuda-check --parts)"
	rm -f "$requirement"
	wheel="$(compgen -G "$4/${1//-/_}-$2-*.whl" | head -n 1)"
	printf '%s\n' "$wheel"
}

# cuda_bring PACKAGE VERSION DIGEST FOLDER: a wheel that is there or is downloaded, checked; its path on standard output.
cuda_bring() {
	local wheel
	wheel="$(cuda_wheel "$1" "$2" || true)"
	[ -n "$wheel" ] || wheel="$(cuda_fetch "$@")"
	check_sha256 "$wheel" "$3"
	printf '%s\n' "$wheel"
}

# cuda_check_library FOLDER: whether the files of ONNX Runtime are those that are pinned.
cuda_check_library() {
	check_sha256 "$1/libonnxruntime.so.$ONNXRUNTIME_VERSION" 5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303
	check_sha256 "$1/libonnxruntime_providers_shared.so" 086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d
	check_sha256 "$1/libonnxruntime_providers_cuda.so" d5290158115fa5569a3fe8f1f4037ee9b0e86658a96e52f852bbb7039aa88137
}

setup_cuda() {
	[ "$(uname -m)" = x86_64 ] ||
		die "no ONNX Runtime with CUDA is pinned for $(uname -m): build version $ONNXRUNTIME_VERSION and set ORT_DYLIB_PATH"
	# The stamp is the list of what was unpacked: another list brings other files.
	local stamp="$CUDA_HOME/made-by" wanted
	wanted="$(cuda_wanted)"
	if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
		cuda_check_library "$CUDA_HOME"
		say "cuda: ONNX Runtime $ONNXRUNTIME_VERSION with CUDA in $CUDA_HOME"
		return
	fi
	have python3 || setup_system
	local scratch package version digest wheel made file
	scratch="$(mktemp -d "$CONSILIENCE_HOME/cuda.XXXXXX")"
	made="$scratch/made"
	mkdir -p "$made/cuda"
	while read -r package version digest; do
		wheel="$(cuda_bring "$package" "$version" "$digest" "$scratch")"
		python3 -m zipfile -e "$wheel" "$scratch/$package"
		case "$package" in
		onnxruntime-gpu)
			for file in "libonnxruntime.so.$ONNXRUNTIME_VERSION" libonnxruntime_providers_shared.so libonnxruntime_providers_cuda.so; do
				mv "$scratch/$package/onnxruntime/capi/$file" "$made/"
			done
			mv "$scratch/$package/onnxruntime/LICENSE" "$scratch/$package/onnxruntime/ThirdPartyNotices.txt" "$made/"
			;;
		*)
			for file in "$scratch/$package"/nvidia/*/lib/*.so.*; do
				# The second builds of the compiler are for programs of other ages.
				case "$file" in *.alt.so.*) ;; *) mv "$file" "$made/cuda/" ;; esac
			done
			for file in "$scratch/$package"/*.dist-info/licenses/* "$scratch/$package"/*.dist-info/License.txt; do
				[ ! -f "$file" ] || mv "$file" "$made/cuda/$package.$(basename "$file")"
			done
			;;
		esac
		rm -rf "${scratch:?}/$package"
	done <<<"$wanted"
	cuda_check_library "$made"
	ln -sfn "libonnxruntime.so.$ONNXRUNTIME_VERSION" "$made/libonnxruntime.so"
	printf '%s\n' "$wanted" >"$made/made-by"
	mkdir -p "$(dirname "$CUDA_HOME")"
	rm -rf "$CUDA_HOME"
	mv "$made" "$CUDA_HOME"
	rm -rf "$scratch"
	say "cuda: ONNX Runtime $ONNXRUNTIME_VERSION with CUDA in $CUDA_HOME"
}
