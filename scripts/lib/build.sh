# The node, built once for every script. Sourced after common.sh.

NODE_BINARY="$CARGO_TARGET_DIR/debug/consilience"
# The same with validators that lie, for tests; see offchain-worker/service/src/liars.
LIARS_BINARY="$CARGO_TARGET_DIR/debug/consilience-liars"

# Free space below which a build that goes on from an earlier one may fail, and what one from nothing takes with its tests.
LEAST_GIB=15 WHOLE_GIB=25

free_gib() {
	mkdir -p "$CARGO_TARGET_DIR"
	df -Pk "$CARGO_TARGET_DIR" | awk 'NR == 2 { print int($4 / 1048576) }'
}

# Frees disk space if little is left: a target folder only grows, for cargo removes nothing that an edit, a feature or another opt-level
# left behind. What is quickest to make again goes first. A node that runs from there keeps its program: it starts its engine from it.
make_room() {
	local part
	for part in incremental workspace everything; do
		[ "$(free_gib)" -lt "$LEAST_GIB" ] && [ -e "$CARGO_TARGET_DIR/debug" ] || break
		if [ "$part" != incremental ] && pgrep -f "^$CARGO_TARGET_DIR/" >/dev/null; then break; fi
		step "$(free_gib) GiB are free, a build may need $LEAST_GIB: removing $part from the target folder"
		case "$part" in
		incremental) rm -rf "$CARGO_TARGET_DIR"/*/incremental ;;
		workspace) (cd "$REPOSITORY" && cargo clean --locked --workspace) >&2 ;;
		everything) rm -rf "$CARGO_TARGET_DIR"/{debug,release} ;;
		esac
	done
	local needed="$LEAST_GIB"
	[ -e "$CARGO_TARGET_DIR/debug" ] || needed="$WHOLE_GIB"
	[ "$(free_gib)" -ge "$needed" ] || say "only $(free_gib) GiB are free on the disk of $CARGO_TARGET_DIR, $needed may be needed: if the build fails, free some or set CARGO_TARGET_DIR"
}

build_node() {
	make_room
	# Set-up first: the runtime's WebAssembly needs its toolchain, and cargo's own check is quick when nothing changed.
	step "building the node (target folder $CARGO_TARGET_DIR)"
	# With the workspace's features, as tests are built: with the node's alone all our crates would be built twice.
	(cd "$REPOSITORY" && cargo build --locked --workspace --bin consilience) >&2 || die "the node does not build: see the compiler's message above"
}

build_liars() {
	step "building the node that lies in tests"
	(cd "$REPOSITORY" && cargo build --locked --workspace --features consilience-node/liars --bin consilience-liars) >&2 ||
		die "the node that lies does not build: see the compiler's message above"
}
