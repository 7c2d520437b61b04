//! The node's program.

fn main() -> std::process::ExitCode {
	consilience_node::main()
}
