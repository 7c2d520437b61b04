//! The node's program with validators that can lie, for tests of the protocol. It runs on no live chain.

fn main() -> std::process::ExitCode {
	consilience_node::main()
}
