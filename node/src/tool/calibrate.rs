//! `consilience calibrate`: all of it is in `consilience-calibration`.

use consilience_calibration::CalibrateCommand;
use polkadot_sdk::sc_cli;

/// Does what the command says. Its engines are this program with the same subcommand.
pub(crate) fn run(command: &CalibrateCommand) -> sc_cli::Result<()> {
	command
		.run(&["calibrate"])
		.map_err(|e| sc_cli::Error::Input(e.to_string()))
}
