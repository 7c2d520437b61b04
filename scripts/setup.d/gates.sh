# The programs that scripts/gates runs: from PyPI in an environment of their own, from npm in clients.

GATES="$CONSILIENCE_HOME/gates"

# setup_gates: the versions of scripts/checks/gates.txt and clients/package-lock.json.
setup_gates() {
	local folder="$REPOSITORY/clients"
	setup_environment "$GATES" "$REPOSITORY/scripts/checks/gates.txt" "check the sources"
	if ! have node || ! have npm; then apt_install "the gates of JavaScript" nodejs npm; fi
	has_node || die "Node.js 20.19 or newer is needed for prettier and eslint; node is $(node --version)"
	# npm writes this file last, so an interrupted installation is done again.
	if [ ! "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
		say "gates: npm ci"
		npm --prefix "$folder" ci --no-audit --no-fund --loglevel=error >&2 || die "npm could not install clients: see its message above"
	fi
	say "gates: ready"
}
