//! Where binary and models are.

use std::path::PathBuf;

fn variable(name: &str) -> Option<PathBuf> {
	std::env::var_os(name)
		.filter(|v| !v.is_empty())
		.map(PathBuf::from)
}

/// The node's binary.
pub fn binary() -> PathBuf {
	let path = variable("CONSILIENCE_BIN").unwrap_or_else(|| {
		// …/debug/deps/test-0123 → …/debug/consilience
		let test = std::env::current_exe().expect("a running program has a path; qed");
		test.ancestors()
			.nth(2)
			.expect("cargo puts tests two folders deep; qed")
			.join("consilience")
	});
	assert!(
		path.is_file(),
		"{} is missing: run `cargo build -p consilience-node`, or set CONSILIENCE_BIN",
		path.display()
	);
	path
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
