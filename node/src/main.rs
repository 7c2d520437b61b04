//! The Consilience node and command line: wiring only.

mod chain_spec;
mod cli;
mod command;
mod rpc;
mod service;
mod tool;
mod worker;

fn main() -> polkadot_sdk::sc_cli::Result<()> {
	command::run()
}
