//! `consilience validator`: looking after a validator.

mod doctor;

use polkadot_sdk::sc_cli;

use super::{block_on, Format, NodeAddress};

/// Look after a validator.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ValidatorCommand {
	/// Look at a running node, and say what keeps its validator from its work and what to do about it. Ends with status 1 if something does.
	Doctor {
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
}

impl ValidatorCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		match self {
			Self::Doctor { node, format } => block_on(doctor::run(node, *format)),
		}
	}
}
