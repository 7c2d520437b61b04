# A Python environment with the clients that the gateway is tested with: apart from the one that converts models, whose versions are
# others.

GATEWAY_CLIENTS="$CONSILIENCE_HOME/gateway-clients"

# setup_gateway: the versions of clients/gateway/tests/clients/requirements.txt.
setup_gateway() {
	local wanted="$REPOSITORY/clients/gateway/tests/clients/requirements.txt" stamp="$GATEWAY_CLIENTS/requirements.txt"
	cmp -s "$wanted" "$stamp" && return
	have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || setup_system
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		die "Python 3.11 or newer is needed to test the gateway's clients; python3 is $(python3 --version)"
	say "gateway: clients in $GATEWAY_CLIENTS"
	[ -x "$GATEWAY_CLIENTS/bin/python" ] || python3 -m venv "$GATEWAY_CLIENTS"
	"$GATEWAY_CLIENTS/bin/python" -m pip install --quiet --no-deps --only-binary=:all: -r "$wanted" >&2 ||
		die "pip could not install $wanted: see its message above"
	cp "$wanted" "$stamp"
}
