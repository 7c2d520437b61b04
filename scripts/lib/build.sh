# The node, built once for every script. Sourced after common.sh.

NODE_BINARY="$CARGO_TARGET_DIR/debug/consilience"
# The same with validators that lie, for tests; see offchain-worker/service/src/liars.
LIARS_BINARY="$CARGO_TARGET_DIR/debug/consilience-liars"

build_node() {
	# Set-up first: the runtime's WebAssembly needs its toolchain, and cargo's own check is quick when nothing changed.
	step "building the node (target folder $CARGO_TARGET_DIR)"
	(cd "$REPOSITORY" && cargo build --locked -p consilience-node) >&2 || die "the node does not build: see the compiler's message above"
}

build_liars() {
	step "building the node that lies in tests"
	(cd "$REPOSITORY" && cargo build --locked -p consilience-node --features liars --bin consilience-liars) >&2 ||
		die "the node that lies does not build: see the compiler's message above"
}
