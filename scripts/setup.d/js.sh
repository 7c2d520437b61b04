# Node.js and the packages of clients/javascript.

setup_js() {
	local folder="$REPOSITORY/clients/javascript"
	if ! have node || ! have npm; then apt_install "the JavaScript client" nodejs npm; fi
	node -e 'process.exit(Number(process.versions.node.split(".")[0] < 18))' ||
		die "Node.js 20 or newer is needed for clients/javascript; node is $(node --version)"
	# npm writes this file last, so an interrupted installation is done again.
	if [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
		say "js: packages are there"
		return
	fi
	say "js: npm ci"
	(cd "$folder" && npm ci --no-audit --no-fund --loglevel=error >&2) || die "npm could not install clients/javascript: see its message above"
}
