//! What the guide shows is this code.
//!
//! A block of Rust stands behind a comment that names the file and the piece, `<!-- shown: pallets/moderation/src/lib.rs propose -->`,
//! and the piece stands in the file between `// docs: propose` and `// docs: end`, indented as it is there.

use std::path::Path;

const GUIDE: [&str; 2] = [
	"docs/pallet-developers/README.md",
	"docs/pallet-developers/testing.md",
];

fn read(path: &str) -> String {
	let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
	std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The lines between two marks, without the indentation that all of them have.
fn piece(source: &str, name: &str) -> Option<String> {
	let begin = format!("// docs: {name}");
	let lines: Vec<_> = source
		.lines()
		.skip_while(|line| line.trim() != begin)
		.skip(1)
		.take_while(|line| line.trim() != "// docs: end")
		.collect();
	let tabs = |line: &&str| line.len() - line.trim_start_matches('\t').len();
	let common = lines
		.iter()
		.filter(|line| !line.is_empty())
		.map(tabs)
		.min()?;
	let shown = lines
		.iter()
		.map(|line| format!("{}\n", line.get(common..).unwrap_or_default()));
	Some(shown.collect())
}

/// What is shown, with the comment before it.
fn blocks(guide: &str) -> Vec<(Option<&str>, String)> {
	let mut blocks = Vec::new();
	let mut lines = guide.lines();
	let mut before = "";
	while let Some(line) = lines.next() {
		if line == "```rust" {
			let block = lines.by_ref().take_while(|line| *line != "```");
			let block = block.map(|line| format!("{line}\n")).collect();
			let shown = before
				.strip_prefix("<!-- shown: ")
				.and_then(|rest| rest.strip_suffix(" -->"));
			blocks.push((shown, block));
		}
		before = line;
	}
	blocks
}

#[test]
fn every_piece_of_rust_in_the_guide_is_compiled_and_tested_code() {
	for page in GUIDE {
		let guide = read(page);
		let blocks = blocks(&guide);
		assert!(blocks.len() > 5, "{page} has {} pieces", blocks.len());
		for (shown, block) in blocks {
			let (path, name) = shown
				.and_then(|shown| shown.split_once(' '))
				.unwrap_or_else(|| panic!("{page} does not say where this is from:\n{block}"));
			let wanted =
				piece(&read(path), name).unwrap_or_else(|| panic!("{path} has no piece `{name}`"));
			assert!(
				wanted == block,
				"{page} shows `{name}` otherwise than {path} has it, which is\n```rust\n{wanted}```"
			);
		}
	}
}

#[test]
fn a_piece_ends_where_it_is_said_to() {
	let source = "a\n\t// docs: one\n\tif b {\n\n\t\tc\n\t}\n\t// docs: end\nd\n";
	assert_eq!(piece(source, "one").unwrap(), "if b {\n\n\tc\n}\n");
	assert_eq!(piece(source, "two"), None);
}
