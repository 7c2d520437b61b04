//! `consilience validator`: looking after a validator.

mod account;
mod doctor;
mod drain;
mod keys;
mod leave;
mod rotate;
mod setup;

use polkadot_sdk::sc_cli;

use super::{block_on, Format, NodeAddress};
use crate::cli::Cli;

/// Look after a validator.
#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum ValidatorCommand {
	/// Look at a running node, and say what keeps its validator from its work and what to do about it. Ends with status 1 if something does.
	Doctor {
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Make a validator of a node and an account: node key, session keys, stake. Does what is missing and can be done, and says what is left;
	/// may be given again at any time.
	Setup(setup::SetupCommand),
	/// Make new session keys in a running node, and put them on chain. On another machine this moves the validator there.
	RotateKeys(rotate::RotateCommand),
	/// Withdraw all models of a validator, and wait until nothing is due from it: before its machine is stopped for longer.
	Drain {
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Stop validating, and take the stake back. Does what can be done now, and says when to come again.
	Leave(leave::LeaveCommand),
}

impl ValidatorCommand {
	/// Does what the command says. `cli` knows chains by their names.
	pub(crate) fn run(&self, cli: &Cli) -> sc_cli::Result<()> {
		match self {
			Self::Doctor { node, format } => block_on(doctor::run(node, *format)),
			Self::Setup(command) => block_on(command.run(cli)),
			Self::RotateKeys(command) => block_on(command.run()),
			Self::Drain { node, format } => block_on(drain::run(node, *format)),
			Self::Leave(command) => block_on(command.run()),
		}
	}
}
