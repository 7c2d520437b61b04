# A Python environment with the clients that the gateway is tested with: apart from the one that converts models, whose versions are
# others.

GATEWAY_CLIENTS="$CONSILIENCE_HOME/gateway-clients"

# setup_gateway: the versions of clients/gateway/tests/clients/requirements.txt.
setup_gateway() {
	setup_environment "$GATEWAY_CLIENTS" "$REPOSITORY/clients/gateway/tests/clients/requirements.txt" "test the gateway's clients"
}
