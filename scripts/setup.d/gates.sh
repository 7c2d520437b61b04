# The programs that scripts/gates runs: from PyPI in an environment of their own, from npm in clients.

GATES="$CONSILIENCE_HOME/gates"
PROMTOOL="$GATES/promtool"

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
	setup_promtool
	say "gates: ready"
}

# setup_promtool: the one of the system, or the one in Debian's package of Prometheus, without the server that installing it would start.
setup_promtool() {
	local scratch sudo=""
	if have promtool; then
		ln -sfn "$(command -v promtool)" "$PROMTOOL"
		return
	fi
	if [ -x "$PROMTOOL" ]; then return; fi
	have apt-get || die "promtool is missing, which the gate of alerts runs: install Prometheus"
	say "gates: promtool"
	scratch="$(mktemp -d)"
	# Debian's own user fetches packages, and may not write into a folder that is ours alone.
	chmod 755 "$scratch"
	# The package lists of a fresh machine are empty or old; they are root's.
	if [ "$(id -u)" -ne 0 ] && have sudo; then sudo="sudo"; fi
	(cd "$scratch" && { apt-get download -q prometheus || { $sudo apt-get update -q && apt-get download -q prometheus; }; }) >&2 ||
		die "promtool is missing, which the gate of alerts runs, and apt could not fetch the package prometheus: see its message above"
	dpkg-deb --extract "$scratch"/prometheus_*.deb "$scratch/unpacked"
	install -m 755 "$scratch/unpacked/usr/bin/promtool" "$PROMTOOL"
	rm -rf "$scratch"
}
