//! Where binary and models are.

use std::path::PathBuf;

fn variable(name: &str) -> Option<PathBuf> {
	std::env::var_os(name)
		.filter(|v| !v.is_empty())
		.map(PathBuf::from)
}

/// A program that stands in a variable, or beside the tests' target folder.
fn program(set: &str, name: &str, build: &str) -> PathBuf {
	let path = variable(set).unwrap_or_else(|| {
		// …/debug/deps/test-0123 → …/debug/NAME
		let test = std::env::current_exe().expect("a running program has a path; qed");
		test.ancestors()
			.nth(2)
			.expect("cargo puts tests two folders deep; qed")
			.join(name)
	});
	assert!(
		path.is_file(),
		"{} is missing: run `{build}`, or set {set}",
		path.display()
	);
	path
}

/// The node's binary, as it is shipped.
pub fn binary() -> PathBuf {
	program(
		"CONSILIENCE_BIN",
		"consilience",
		"cargo build -p consilience-node",
	)
}

/// The node's binary with validators that lie.
pub fn liars_binary() -> PathBuf {
	program(
		"CONSILIENCE_LIARS_BIN",
		"consilience-liars",
		"cargo build -p consilience-node --features liars --bin consilience-liars",
	)
}

/// Folder of a model that `scripts/setup models` made.
pub fn model(name: &str) -> PathBuf {
	let home = || {
		variable("CONSILIENCE_HOME")
			.or_else(|| variable("XDG_DATA_HOME").map(|d| d.join("consilience")))
			.or_else(|| variable("HOME").map(|h| h.join(".local/share/consilience")))
			.map(|h| h.join("models"))
	};
	let path = variable("CONSILIENCE_MODELS")
		.or_else(home)
		.unwrap_or_default()
		.join(name);
	assert!(
		path.is_dir(),
		"{} is missing: run ./scripts/setup models",
		path.display()
	);
	path
}
