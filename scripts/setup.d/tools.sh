# The test runner, and the parts of the Rust toolchain that the checks need.

setup_tools() {
	if ! cargo fmt --version >/dev/null 2>&1; then rustup component add rustfmt >&2; fi
	if ! cargo clippy --version >/dev/null 2>&1; then rustup component add clippy >&2; fi
	if ! cargo nextest --version >/dev/null 2>&1; then
		say "tools: building cargo-nextest (some minutes)"
		cargo install --locked cargo-nextest --version 0.9.143 >&2 || die "cargo could not install cargo-nextest: see its message above"
	fi
	say "tools: rustfmt, clippy, cargo-nextest"
}
