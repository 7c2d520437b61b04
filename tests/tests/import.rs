//! From a bare file to a model in the store, on the command line.

use std::{fs, path::Path};

use consilience_tests::{binary, cli, model};
use serde_json::{json, Value};

fn text(path: &Path) -> String {
	path.display().to_string()
}

#[tokio::test]
async fn a_bare_file_becomes_a_model_once_its_thresholds_are_known() {
	let folder = tempfile::tempdir().expect("a folder for temporary files");
	let (base, bare, drafted) = (
		text(&folder.path().join("base")),
		folder.path().join("magika.onnx"),
		folder.path().join("drafted"),
	);
	let graph = model("magika-standard-v3.3").join("model.onnx");
	fs::copy(graph, &bare).expect("the model can be copied");

	// It sums otherwise with more threads, and says so.
	let refused = cli(["model", "import", &text(&bare), "--base-path", &base])
		.await
		.expect_err("nobody has measured its thresholds");
	for part in [
		"ReduceSum",
		"consilience model draft",
		"consilience calibrate",
	] {
		assert!(refused.contains(part), "{part}: {refused}");
	}
	assert!(!refused.contains(".import-"), "{refused}");
	let without = ["model", "import", "--no-measure", "--base-path", &base];
	let refused = cli(without.iter().copied().chain([text(&bare).as_str()]))
		.await
		.expect_err("nobody says of which class it is");
	assert!(refused.contains("consilience model draft"), "{refused}");
	let left = fs::read_dir(folder.path().join("base/models")).expect("the store is there");
	assert_eq!(left.count(), 0, "nothing is left of what was refused");

	let card = cli(["model", "draft", &text(&bare), &text(&drafted)])
		.await
		.expect("a card can be drafted");
	assert_eq!(card["task"], "tensor");
	let report = cli([
		"calibrate",
		&text(&drafted),
		"--answers",
		"4",
		"--challenges",
		"2",
		"--levels",
		"all",
	])
	.await
	.expect("the draft can be calibrated");
	let path = drafted.join("model.json");
	let mut card: Value =
		serde_json::from_slice(&fs::read(&path).expect("a draft has a card")).expect("JSON");
	card["policy"] = report["policy"].clone();
	assert!(card["policy"].is_object(), "{report}");
	fs::write(&path, card.to_string()).expect("the test's folder is writable");
	let imported = cli(["model", "import", &text(&drafted), "--base-path", &base])
		.await
		.expect("the calibrated draft can be imported");
	assert_eq!(imported["class"], json!("tolerant"));
	assert_eq!(imported["name"], "magika");
}

#[tokio::test]
async fn a_bare_file_of_the_exact_class_needs_nothing_else() {
	let folder = tempfile::tempdir().expect("a folder for temporary files");
	let base = text(&folder.path().join("base"));
	let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo and nextest set it");
	let scalar = Path::new(&here).join("../offchain-worker/engine/tests/fixtures/scalar.onnx");
	let imported = cli(["model", "import", &text(&scalar), "--base-path", &base])
		.await
		.expect("a bare file of the exact class can be imported");
	assert_eq!(
		(&imported["name"], &imported["class"]),
		(&json!("scalar"), &json!("exact"))
	);
	let listed = cli(["model", "list", "--base-path", &base])
		.await
		.expect("the store can be listed");
	assert_eq!(listed["models"][0]["model"], imported["model"]);
	let input = folder.path().join("input.json");
	let x = json!({ "name": "x", "shape": [], "datatype": "FP32", "data": [1.5] });
	fs::write(&input, json!({ "inputs": [x] }).to_string()).expect("the folder is writable");
	let answer = cli([
		"model",
		"run",
		"scalar",
		"--input",
		&text(&input),
		"--base-path",
		&base,
	])
	.await
	.expect("the model runs");
	assert_eq!(answer["outputs"][1]["data"], json!([3.0]));
}

/// ONNX Runtime leaves an identifier there when it tells its maker of the process.
#[tokio::test]
async fn nobody_is_told_that_onnx_runtime_runs() {
	let home = tempfile::tempdir().expect("a folder for temporary files");
	let status = tokio::process::Command::new(binary())
		.args(["model", "exactness", "--short"])
		.arg(model("magika-standard-v3.3"))
		.env("HOME", home.path())
		.env_remove("XDG_CACHE_HOME")
		.env_remove("ORT_DISABLE_TELEMETRY")
		.output()
		.await
		.expect("the binary runs");
	assert_eq!(status.status.code(), Some(1), "it was measured: {status:?}");
	let left = fs::read_dir(home.path()).expect("the folder is there");
	assert_eq!(left.count(), 0, "{}", home.path().display());
}
