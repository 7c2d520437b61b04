# The web page, built from npm packages. Sourced after common.sh and setup.d/system.sh.

WEB="$REPOSITORY/clients/web/dist"

# has_node: whether Node.js is there that the page builds with.
has_node() {
	have npm && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(Number(a < 20 || (a === 20 && b < 19)))'
}

build_web() {
	step "web: packages and build"
	npm --prefix "$REPOSITORY/clients/web" ci --no-audit --no-fund --loglevel=error >&2 || die "npm could not install clients/web: see its message above"
	npm --prefix "$REPOSITORY/clients/web" run --silent build >&2 || die "the page does not build: see above"
}
