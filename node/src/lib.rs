//! The Consilience node and command line: wiring only.

mod chain_spec;
mod cli;
mod command;
mod dev;
mod development;
mod early;
mod finality;
#[cfg(feature = "liars")]
mod holder;
mod lane;
mod rpc;
mod service;
mod tool;
mod transfer;
mod worker;

/// Does what the command line says.
pub fn main() -> std::process::ExitCode {
	use polkadot_sdk::sc_cli::Error;
	consilience_engine::disable_telemetry();
	match command::run() {
		Ok(()) => std::process::ExitCode::SUCCESS,
		Err(error) => {
			match error {
				// What was wrong and what to do, as it was written.
				Error::Input(message) => eprintln!("error: {message}"),
				other => eprintln!("error: {other}"),
			}
			std::process::ExitCode::FAILURE
		}
	}
}
