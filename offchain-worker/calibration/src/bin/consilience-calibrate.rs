//! `consilience calibrate` without the node: it builds in a minute, for machines that only measure.

use clap::Parser;
use consilience_calibration::CalibrateCommand;

/// Calibrates a model.
#[derive(Debug, clap::Parser)]
struct Cli {
	#[command(flatten)]
	command: CalibrateCommand,
}

fn main() -> std::process::ExitCode {
	consilience_engine::disable_telemetry();
	match Cli::parse().command.run(&[]) {
		Ok(()) => std::process::ExitCode::SUCCESS,
		Err(e) => {
			eprintln!("{e}");
			std::process::ExitCode::FAILURE
		}
	}
}
