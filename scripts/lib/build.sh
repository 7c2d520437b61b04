# The node, built once for every script. Sourced after common.sh.

NODE_BINARY="$CARGO_TARGET_DIR/debug/consilience"

build_node() {
	# Set-up first: the runtime's WebAssembly needs its toolchain, and cargo's own check is quick when nothing changed.
	step "building the node (target folder $CARGO_TARGET_DIR)"
	(cd "$REPOSITORY" && cargo build --locked -p consilience-node) >&2 || die "the node does not build: see the compiler's message above"
}
