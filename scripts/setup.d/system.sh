# System packages: only what is missing, found by what it provides, because a tool may come from elsewhere than apt.

# apt_install PURPOSE PACKAGE...: installs as root or through sudo, or says what to install.
apt_install() {
	local purpose="$1"
	shift
	local sudo=""
	have apt-get || die "missing for $purpose: $*. This script installs packages only with apt (Debian, Ubuntu); install the equivalents and run it again"
	if [ "$(id -u)" -ne 0 ]; then
		have sudo || die "missing for $purpose: $*. Run as root: apt-get install --no-install-recommends $*"
		sudo="sudo"
	fi
	say "installing for $purpose: $*"
	if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2; then
		# The package lists of a fresh machine are empty or old.
		$sudo apt-get update -q >&2
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2 ||
			die "apt could not install $*: see its message above"
	fi
}

setup_system() {
	local missing=()
	have cc || missing+=(gcc libc6-dev)
	have g++ || missing+=(g++)
	have make || missing+=(make)
	have protoc || missing+=(protobuf-compiler)
	have git || missing+=(git ca-certificates)
	have python3 || missing+=(python3)
	# Debian splits the standard library: venv needs ensurepip, which is in python3-venv.
	if ! have python3 || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
	if [ ${#missing[@]} -gt 0 ]; then apt_install "building" "${missing[@]}"; fi
	have cargo || die "Rust is missing: install rustup (https://rustup.rs) with the stable toolchain and run this again"
	say "system: ready"
}
