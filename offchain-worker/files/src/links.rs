//! Symbolic links in a model's folder.

use std::path::{Path, PathBuf};

/// Whether a file of a model's folder may be at this place. Both paths are real ones, with nothing of links left.
///
/// A model's files are inside its folder. The hub's cache keeps them beside it: `models--OWNER--NAME/snapshots/REVISION/FILE` is
/// a link to `models--OWNER--NAME/blobs/HASH`. Such links are followed, into the blobs of the same model and nowhere else.
pub fn may_follow(folder: &Path, file: &Path) -> bool {
	file.starts_with(folder) || blobs(folder).is_some_and(|blobs| file.starts_with(blobs))
}

/// Where the hub's cache keeps the files of a folder, if the folder is part of one.
fn blobs(folder: &Path) -> Option<PathBuf> {
	let snapshots = folder
		.ancestors()
		.find(|a| a.file_name().is_some_and(|name| name == "snapshots"))?;
	let model = snapshots.parent()?;
	let name = model.file_name()?.to_str()?;
	// A folder that is called snapshots by chance has no such parent.
	let cached = name.starts_with("models--") && folder != snapshots;
	let blobs = model.join("blobs");
	(cached && blobs.canonicalize().is_ok_and(|real| real == blobs)).then_some(blobs)
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;

	#[test]
	fn links_lead_into_the_same_models_blobs_and_nowhere_else() {
		let place = tempfile::tempdir().unwrap();
		let root = place.path().canonicalize().unwrap();
		let snapshot = root.join("models--a--b/snapshots/0123");
		std::fs::create_dir_all(snapshot.join("onnx")).unwrap();
		std::fs::create_dir_all(root.join("models--a--b/blobs")).unwrap();
		std::fs::create_dir_all(root.join("models--c--d/blobs")).unwrap();
		let file = |name: &str| root.join(name);
		for folder in [snapshot.clone(), snapshot.join("onnx")] {
			assert!(may_follow(&folder, &file("models--a--b/blobs/ff")));
			assert!(may_follow(&folder, &folder.join("x")));
			assert!(!may_follow(&folder, &file("models--c--d/blobs/ff")));
			assert!(!may_follow(&folder, &file("models--a--b/refs/main")));
			assert!(!may_follow(&folder, Path::new("/etc/passwd")));
		}
		// Elsewhere no link leads out, whatever folders are called.
		let other = root.join("mine/snapshots/0123");
		std::fs::create_dir_all(&other).unwrap();
		std::fs::create_dir_all(root.join("mine/blobs")).unwrap();
		assert!(!may_follow(&other, &file("mine/blobs/ff")));
	}

	#[cfg(unix)]
	#[test]
	fn blobs_that_are_a_link_are_none() {
		let place = tempfile::tempdir().unwrap();
		let root = place.path().canonicalize().unwrap();
		let snapshot = root.join("models--a--b/snapshots/0123");
		std::fs::create_dir_all(&snapshot).unwrap();
		std::os::unix::fs::symlink("/etc", root.join("models--a--b/blobs")).unwrap();
		assert!(!may_follow(&snapshot, Path::new("/etc/passwd")));
		assert!(!may_follow(
			&snapshot,
			&root.join("models--a--b/blobs/passwd")
		));
	}
}
