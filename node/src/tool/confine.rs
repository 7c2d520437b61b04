//! Commands that run a model which nobody has vouched for do so in a process of their own, so that after a crash somebody is
//! left to say what happened.

use std::{env, io, process::exit, time::Duration};

use tokio::{process::Command, time::timeout};

use super::Result;

/// Set in the process that does the work.
const MARK: &str = "CONSILIENCE_CONFINED";

/// Whether this is the process that does the work.
pub(crate) fn is_confined() -> bool {
	env::var_os(MARK).is_some()
}

/// Runs this command line again in a process of its own, for so long at most. Returns when that has done its work, ends with
/// its status when it has said why not, and says what happened when it could not.
pub(crate) fn run(model: &str, limit: Duration) -> Result<()> {
	let child = async {
		let mut child = Command::new(env::current_exe()?)
			.args(env::args_os().skip(1))
			.env(MARK, "1")
			.kill_on_drop(true)
			.spawn()?;
		match timeout(limit, child.wait()).await {
			Ok(status) => status.map(Some),
			Err(_) => child.kill().await.map(|()| None),
		}
	};
	let runtime = tokio::runtime::Builder::new_current_thread()
		.enable_all()
		.build();
	let status = runtime
		.and_then(|runtime| runtime.block_on(child))
		.map_err(|e: io::Error| format!("{model}: a process of its own for it: {e}"))?;
	match status {
		Some(status) if status.success() => Ok(()),
		Some(status) => match status.code() {
			Some(code) => exit(code),
			None => Err(format!(
				"{model}: ONNX Runtime or another library crashed over it ({status}): it cannot be used"
			)),
		},
		None => Err(format!(
			"{model}: it took longer than {} s and was ended: it cannot be used",
			limit.as_secs()
		)),
	}
}
