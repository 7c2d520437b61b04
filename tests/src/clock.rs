//! A time of day that a test puts forward, so that sessions and eras of the runtime as it is shipped pass in moments.

use std::{
	ffi::OsStr,
	fs::{self, OpenOptions},
	io::Write,
	path::{Path, PathBuf},
	process::Command,
	time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::command;

/// The time of day of the programs that are started with it.
#[derive(Clone, Debug)]
pub struct Clock {
	library: PathBuf,
	ahead: PathBuf,
}

impl Clock {
	/// A clock that is right as yet. Its files are in this folder.
	pub fn new(folder: &Path) -> Self {
		// Where the tests run; they may have been built in another clone that shares the target folder.
		let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo and nextest set it");
		let clock = Self {
			library: folder.join("clock.so"),
			ahead: folder.join("clock"),
		};
		fs::write(&clock.ahead, 0i64.to_ne_bytes()).expect("the test's folder is writable");
		let built = Command::new("cc")
			.args(["-shared", "-fPIC", "-O1", "-o"])
			.arg(&clock.library)
			.arg(Path::new(&here).join("data/clock.c"))
			.status();
		assert!(built.expect("there is a C compiler").success());
		clock
	}

	/// What a program's environment says for it to go by this clock.
	pub fn variables(&self) -> Vec<(String, String)> {
		let path = |path: &Path| path.display().to_string();
		vec![
			("LD_PRELOAD".into(), path(&self.library)),
			("CONSILIENCE_TEST_CLOCK".into(), path(&self.ahead)),
		]
	}

	/// Seconds by which it is ahead.
	fn ahead(&self) -> i64 {
		let ahead = fs::read(&self.ahead).expect("the clock's file is there");
		i64::from_ne_bytes(ahead.try_into().expect("eight bytes were written; qed"))
	}

	/// What it shows, since 1970.
	pub fn now(&self) -> Duration {
		// The clock itself is asked about.
		#[allow(clippy::disallowed_methods)]
		let now = SystemTime::now().duration_since(UNIX_EPOCH);
		let now = now.expect("it is later than 1970; qed");
		now + Duration::from_secs(self.ahead().unsigned_abs())
	}

	/// Puts it forward until it shows this or a little more. Programs that run see it at once.
	pub fn forward_to(&self, then: Duration) {
		let missing = then.saturating_sub(self.now()).as_millis().div_ceil(1_000);
		let ahead = self.ahead() + i64::try_from(missing).expect("not for ever");
		// In its place: it is mapped into the programs' memory.
		let file = OpenOptions::new().write(true).open(&self.ahead);
		let written = file.and_then(|mut file| file.write_all(&ahead.to_ne_bytes()));
		written.expect("the test's folder is writable");
	}

	/// Runs a subcommand that goes by this clock with `--json`: its last object, or what it said on standard error.
	pub async fn cli<S: AsRef<OsStr>>(
		&self,
		arguments: impl IntoIterator<Item = S>,
	) -> Result<Value, String> {
		command::cli_with(&self.variables(), arguments).await
	}
}
