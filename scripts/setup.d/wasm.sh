# A toolchain that compiles the runtime to WebAssembly (target wasm32v1-none).
#
# `rustup target add` is all it takes where rustup's server can be reached. Elsewhere Debian's web toolchain builds `core` and
# `alloc` for the target once, and a folder that looks like a toolchain is linked into rustup under the name below.

WASM_TOOLCHAIN=consilience-wasm
WASM_TARGET=wasm32v1-none
WASM_FOLDER="$CONSILIENCE_HOME/wasm-toolchain"

setup_wasm() {
	have rustup || die "rustup is missing: install it (https://rustup.rs) and run this again"
	if wasm_target_installed; then
		say "wasm: $WASM_TARGET of the active toolchain"
		return
	fi
	if wasm_fallback_complete; then
		wasm_use_fallback
		return
	fi
	say "wasm: rustup target add $WASM_TARGET"
	if timeout 120 rustup target add "$WASM_TARGET" >&2 && wasm_target_installed; then
		say "wasm: $WASM_TARGET added to the active toolchain"
		return
	fi
	say "wasm: rustup could not add the target; building it with Debian's web toolchain instead"
	wasm_build_fallback
	wasm_use_fallback
}

wasm_target_installed() { [ -d "$(rustc --print sysroot)/lib/rustlib/$WASM_TARGET/lib" ]; }

wasm_fallback_complete() {
	local crate
	[ -x "$WASM_FOLDER/bin/rustc" ] && [ -x "$WASM_FOLDER/bin/cargo" ] || return 1
	for crate in core alloc compiler_builtins; do
		compgen -G "$WASM_FOLDER/lib/rustlib/$WASM_TARGET/lib/lib$crate-*.rlib" >/dev/null || return 1
	done
}

wasm_build_fallback() {
	[ "$(uname -m)" = x86_64 ] || die "no WebAssembly target: 'rustup target add $WASM_TARGET' failed, and the fallback is only for x86_64"
	local packages=() package
	for package in rustc-web cargo-web rust-web-src rust-web-llvm lld-22; do
		dpkg -s "$package" >/dev/null 2>&1 || packages+=("$package")
	done
	if [ ${#packages[@]} -gt 0 ]; then apt_install "the WebAssembly target" "${packages[@]}"; fi

	local scratch
	scratch="$(mktemp -d)"
	mkdir -p "$scratch/src"
	cat >"$scratch/Cargo.toml" <<-'TOML'
		[package]
		name = "sysroot"
		version = "0.0.0"
		edition = "2021"

		[workspace]
	TOML
	printf '#![no_std]\nextern crate alloc;\n' >"$scratch/src/lib.rs"
	# Without the bitcode the runtime's link-time optimisation fails with "Can't find section .llvmbc".
	(
		cd "$scratch"
		env -u RUSTUP_TOOLCHAIN -u CARGO -u RUSTC_WRAPPER -u CARGO_TARGET_DIR \
			RUSTFLAGS="-C embed-bitcode=yes" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
			/usr/bin/cargo build --release --target "$WASM_TARGET" -Zbuild-std=core,alloc >&2
	) || die "building core and alloc for $WASM_TARGET failed: see the message above"

	# Made beside the final place and moved, so that an interrupted run leaves nothing half done.
	local made="$WASM_FOLDER.new" host=x86_64-unknown-linux-gnu
	rm -rf "$made"
	mkdir -p "$made/bin" "$made/lib/rustlib/$WASM_TARGET/lib"
	ln -s /usr/bin/cargo "$made/bin/cargo"
	printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot "%s" "$@"\n' "$WASM_FOLDER" >"$made/bin/rustc"
	chmod +x "$made/bin/rustc"
	ln -s "/usr/lib/rustlib/$host" "$made/lib/rustlib/$host"
	local crate
	for crate in core alloc compiler_builtins; do
		cp "$scratch/target/$WASM_TARGET/release/deps/lib$crate"-*.rlib "$made/lib/rustlib/$WASM_TARGET/lib/"
	done
	rm -rf "$WASM_FOLDER" "$scratch"
	mv "$made" "$WASM_FOLDER"
}

wasm_use_fallback() {
	if [ "$(readlink -f "${RUSTUP_HOME:-$HOME/.rustup}/toolchains/$WASM_TOOLCHAIN" || true)" != "$(readlink -f "$WASM_FOLDER")" ]; then
		rustup toolchain link "$WASM_TOOLCHAIN" "$WASM_FOLDER" >&2
	fi
	# The runtime's build script reads the variable; git ignores the file.
	local config="$REPOSITORY/.cargo/config.toml"
	if ! grep -qs '^WASM_BUILD_TOOLCHAIN *=' "$config"; then
		mkdir -p "$REPOSITORY/.cargo"
		if grep -qs '^\[env\]' "$config"; then
			sed -i "s/^\[env\]/[env]\nWASM_BUILD_TOOLCHAIN = \"$WASM_TOOLCHAIN\"/" "$config"
		else
			printf '# Written by scripts/setup: rustup has no WebAssembly target here.\n[env]\nWASM_BUILD_TOOLCHAIN = "%s"\n' \
				"$WASM_TOOLCHAIN" >>"$config"
		fi
	fi
	say "wasm: toolchain $WASM_TOOLCHAIN in $WASM_FOLDER"
}
