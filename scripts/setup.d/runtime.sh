# The ONNX Runtime library: the file inside the PyPI wheel, which needs no Python to run.

setup_runtime() {
	local architecture digest
	architecture="$(uname -m)"
	case "$architecture" in
	x86_64) digest=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;;
	aarch64) digest=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;;
	*) die "no ONNX Runtime library is pinned for $architecture: build version $ONNXRUNTIME_VERSION and set ORT_DYLIB_PATH" ;;
	esac
	local folder="$CONSILIENCE_HOME/onnxruntime/$ONNXRUNTIME_VERSION"
	local library="$folder/libonnxruntime.so.$ONNXRUNTIME_VERSION"
	if [ ! -e "$library" ]; then
		setup_python
		say "runtime: downloading ONNX Runtime $ONNXRUNTIME_VERSION"
		local scratch
		scratch="$(mktemp -d)"
		fetch_wheels "$REPOSITORY/scripts/setup.d/onnxruntime.txt" "$scratch" "$architecture"
		"$PYTHON_ENVIRONMENT/bin/python" -m zipfile -e "$scratch"/onnxruntime-*.whl "$scratch/unpacked"
		check_sha256 "$scratch/unpacked/onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION" "$digest"
		mkdir -p "$folder"
		mv "$scratch/unpacked/onnxruntime/LICENSE" "$scratch/unpacked/onnxruntime/ThirdPartyNotices.txt" "$folder/"
		mv "$scratch/unpacked/onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION" "$library"
		rm -rf "$scratch"
	fi
	check_sha256 "$library" "$digest"
	ln -sfn "libonnxruntime.so.$ONNXRUNTIME_VERSION" "$folder/libonnxruntime.so"
	say "runtime: ONNX Runtime $ONNXRUNTIME_VERSION in $folder"
}
