//! The integer class: a small random model as `consilience model canonicalise` makes it, from import to checked answer.

use std::{
	fs,
	path::{Path, PathBuf},
};

use consilience_canonical::{Canonical, Proof, Ranges, INTEGER};
use consilience_engine::{
	exactness::{measure, Options, Outcome, Verdict},
	Engine, EngineConfig, EngineError, Part,
};
use consilience_primitives::{
	evidence::{Fingerprint, Verdict as Found},
	manifest::{Manifest, TaskDetails},
	model::NumericClass,
	request::{FullInput, Output, Prompt, Sampling},
	List,
};
use consilience_store::{Import, ImportError, Measured, Store};
use polkadot_sdk::sp_core::H256;
use prost::Message;
use serde_json::{json, Value};

use crate::{
	cards::InProcess,
	exactness::Measures,
	fixtures::{engine, folder, text, CONTEXT, VOCABULARY},
};

const NAME: &str = "llama-integer";
const HIDDEN: usize = 24;
const INNER: usize = 40;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 4;

/// Numbers from -1 to 1 that look random.
struct Noise(u64);

impl Noise {
	fn next(&mut self) -> f32 {
		self.0 = self
			.0
			.wrapping_mul(6364136223846793005)
			.wrapping_add(1442695040888963407);
		(self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
	}
}

/// A file of safetensors with random weights: name, rows, columns, and how far they are from what.
fn weights() -> Vec<u8> {
	let mut noise = Noise(11);
	let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
	let mut add = |name: String, shape: &[usize], size: f32, middle: f32| {
		let start = data.len();
		for _ in 0..shape.iter().product() {
			data.extend_from_slice(&(middle + size * noise.next()).to_le_bytes());
		}
		let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
		header.insert(name, tensor);
	};
	let vocabulary = VOCABULARY as usize;
	add(
		"model.embed_tokens.weight".into(),
		&[vocabulary, HIDDEN],
		0.8,
		0.0,
	);
	add("model.norm.weight".into(), &[HIDDEN], 0.3, 1.0);
	for layer in 0..LAYERS {
		let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
		for (part, rows, columns) in [
			("self_attn.q_proj", q, HIDDEN),
			("self_attn.k_proj", kv, HIDDEN),
			("self_attn.v_proj", kv, HIDDEN),
			("self_attn.o_proj", HIDDEN, q),
			("mlp.gate_proj", INNER, HIDDEN),
			("mlp.up_proj", INNER, HIDDEN),
			("mlp.down_proj", HIDDEN, INNER),
		] {
			let name = format!("model.layers.{layer}.{part}.weight");
			add(name, &[rows, columns], (3.0 / columns as f32).sqrt(), 0.0);
		}
		for part in ["input_layernorm", "post_attention_layernorm"] {
			add(
				format!("model.layers.{layer}.{part}.weight"),
				&[HIDDEN],
				0.3,
				1.0,
			);
		}
	}
	let header = Value::Object(header).to_string();
	let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
	bytes.extend(header.into_bytes());
	bytes.extend(data);
	bytes
}

/// What the model's queries, keys and values are taken to be within.
fn ranges() -> Ranges {
	let table = |heads: usize, value: f64| vec![vec![vec![value; HEAD_DIM]; heads]; LAYERS];
	let file = json!({
		"q": table(HEADS, 4.0),
		"k_low": table(KV_HEADS, -4.0), "k_high": table(KV_HEADS, 4.0), "k_first": table(KV_HEADS, 0.1),
		"v_low": table(KV_HEADS, -4.0), "v_high": table(KV_HEADS, 4.0), "v_first": table(KV_HEADS, 0.1),
	});
	Ranges::parse(file.to_string().into()).unwrap()
}

/// Makes the model in a folder that is not there yet, as it would be of a published one.
fn make(out: &Path) -> Proof {
	let source = tempfile::tempdir().unwrap();
	let write = |name: &str, bytes: &[u8]| fs::write(source.path().join(name), bytes).unwrap();
	let config = json!({
		"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
		"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCABULARY,
		"max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "tie_word_embeddings": true,
		"eos_token_id": 1,
	});
	write("config.json", config.to_string().as_bytes());
	write("model.safetensors", &weights());
	write("README.md", b"---\nlicense: apache-2.0\n---\nA model.\n");
	write("tokenizer_config.json", br#"{"eos_token": "t1"}"#);
	let tokenizer = folder("llama-int8").join("tokenizer.json");
	fs::copy(tokenizer, source.path().join("tokenizer.json")).unwrap();
	let canonical = Canonical::integer(source.path(), Some(ranges()), Some(NAME), None).unwrap();
	canonical.write(out, &mut |_| ()).unwrap().unwrap()
}

/// The folder of a model that was made, for as long as it is held.
fn made() -> (tempfile::TempDir, PathBuf) {
	let keep = tempfile::tempdir().unwrap();
	let out = keep.path().join("model");
	make(&out);
	(keep, out)
}

fn import(folder: &Path) -> Result<Import, ImportError> {
	Import::read(folder, &Measures(InProcess(engine())), &mut |_| ())
}

/// The fixture of this name, of which all tests of language models are, is what the converter makes. `CONSILIENCE_ACCEPT=1` writes it.
#[test]
fn the_fixture_is_what_the_converter_makes() {
	let (_keep, out) = made();
	for file in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
		let (new, fixture) = (fs::read(out.join(file)).unwrap(), folder(NAME).join(file));
		if std::env::var_os("CONSILIENCE_ACCEPT").is_some() {
			fs::create_dir_all(folder(NAME)).unwrap();
			fs::write(&fixture, &new).unwrap();
		}
		let old = fs::read(&fixture).unwrap_or_default();
		assert!(
			new == old,
			"{}: run this with CONSILIENCE_ACCEPT=1",
			fixture.display()
		);
	}
}

fn question(prompt: &str) -> FullInput {
	FullInput::TextGeneration {
		prompt: Prompt::Text(prompt.as_bytes().to_vec().try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 40,
			temperature: 900,
			..Default::default()
		},
	}
}

#[test]
fn what_the_converter_writes_is_imported_served_and_checked() {
	let (_keep, out) = made();
	let imported = import(&out).unwrap();
	assert_eq!(imported.measured, Some(Measured::Exact { skipped: vec![] }));
	let proof = imported.proof.as_ref().unwrap();
	assert_eq!(proof.sums.len(), 15 * LAYERS + 3);
	let (numerics, policy) = (&imported.manifest.numerics, &imported.manifest.policy);
	assert_eq!(
		(&numerics.element_type[..], policy.class),
		(INTEGER, NumericClass::Exact)
	);

	let keep = tempfile::tempdir().unwrap();
	let store = Store::open(keep.path()).unwrap();
	let id = imported.put(&store, &mut |_| ()).unwrap();
	let stored = store.verify(id, |_| ()).unwrap();
	// A model that came with its manifest is proven, too.
	assert!(import(&stored.folder).unwrap().proof.is_some());

	// Two machines that differ in threads, and in what they keep of texts: one writes, the other checks.
	let config = |threads, prefix_bytes| EngineConfig {
		threads,
		prefix_bytes,
		..Default::default()
	};
	let [one, other] = [config(1, 0), config(2, 1 << 20)].map(|config| {
		let engine = Engine::new(config).unwrap();
		assert_eq!(engine.load(&stored.folder).unwrap(), id);
		engine
	});
	let (_, evidence) = other.reference(id).unwrap();
	assert_eq!(evidence, stored.manifest.reference.evidence);
	let (input, seed) = (question("t20 t21 t22 t23 t24"), H256::repeat_byte(7));
	let answer = one.run(id, &input, &seed).unwrap();
	assert_eq!(other.run(id, &input, &seed).unwrap(), answer);
	let challenge = H256::repeat_byte(9);
	let found = [&one, &other].map(|engine| {
		let part = Part {
			tokens: None,
			challenge,
		};
		let parts = engine.measure_parts(id, &input, &seed, Some(&answer), &[part]);
		parts.unwrap().remove(0)
	});
	assert_eq!(found[0], found[1]);
	assert_eq!(found[0].verdict, Found::default());
	// An answer with another token in it is not the model's.
	let Output::Text {
		mut tokens,
		text,
		finish,
	} = answer
	else {
		panic!("no text")
	};
	tokens[0].0 = 20 + (tokens[0].0 + 1) % 40;
	let lie = Output::Text {
		tokens,
		text,
		finish,
	};
	let found = one
		.measure(id, &input, &seed, Some(&lie), &challenge)
		.unwrap();
	assert!(found.verdict.deviations > 0, "{:?}", found.verdict);
}

#[test]
fn all_ways_of_running_it_give_the_same_bits_and_nothing_is_doubted() {
	let (_keep, out) = made();
	let manifest = import(&out).unwrap().manifest;
	let report = measure(&out, &manifest, &Options::thorough(2_048), &mut |_| ()).unwrap();
	assert_eq!((report.verdict, report.reason()), (Verdict::Exact, None));
	assert!(report.proven && report.doubts.is_empty());
	for way in &report.ways {
		assert_eq!(way.outcome, Outcome::Equal, "{}", way.name);
	}
	let short = measure(&out, &manifest, &Options::short(), &mut |_| ()).unwrap();
	assert!(
		short.ways.iter().all(|w| w.threads == 1),
		"the proof speaks of threads"
	);
	assert_eq!(short.digest.len(), report.digest.len());
	// Whatever else is in such a graph is doubted where there is no proof of it.
	let mut other = manifest;
	other.numerics.element_type = "int8".into();
	let report = measure(&out, &other, &Options::short(), &mut |_| ()).unwrap();
	assert!(!report.proven && !report.doubts.is_empty());
}

/// As much of ONNX's format as it takes to add a node to a graph: what follows a file's end joins what is in it.
#[derive(Clone, PartialEq, Message)]
struct Addition {
	#[prost(message, optional, tag = "7")]
	graph: Option<Nodes>,
}

#[derive(Clone, PartialEq, Message)]
struct Nodes {
	#[prost(message, repeated, tag = "1")]
	node: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
	#[prost(string, repeated, tag = "1")]
	input: Vec<String>,
	#[prost(string, repeated, tag = "2")]
	output: Vec<String>,
	#[prost(string, tag = "3")]
	name: String,
	#[prost(string, tag = "4")]
	op_type: String,
}

/// Puts another node at a graph's end.
fn add_node(folder: &Path, op_type: &str, input: &str) {
	let node = Node {
		input: vec![input.into()],
		output: vec!["added.output".into()],
		name: "added".into(),
		op_type: op_type.into(),
	};
	let graph = Some(Nodes { node: vec![node] });
	let path = folder.join("model.onnx");
	let mut bytes = fs::read(&path).unwrap();
	bytes.extend(Addition { graph }.encode_to_vec());
	fs::write(path, bytes).unwrap();
}

#[test]
fn a_sum_of_floats_is_refused_by_name() {
	let (_keep, out) = made();
	let manifest = import(&out).unwrap().manifest;
	add_node(&out, "ReduceSum", "logits");
	let why = import(&out).unwrap_err();
	assert!(matches!(why, ImportError::Unproven { .. }), "{why}");
	let why = why.to_string();
	for part in [
		"model.onnx",
		"added (ReduceSum)",
		"whole",
		"canonicalise --class integer",
	] {
		assert!(why.contains(part), "{part}: {why}");
	}
	// Nor by an engine that has it from elsewhere.
	let why = engine().load_manifest(&out, manifest.clone()).unwrap_err();
	assert!(why.to_string().contains("added (ReduceSum)"), "{why}");
	let report = measure(&out, &manifest, &Options::short(), &mut |_| ()).unwrap();
	assert_eq!(report.verdict, Verdict::EqualHere);
	let why = report.reason().unwrap();
	assert!(
		why.contains("ReduceSum") && why.contains("integer class"),
		"{why}"
	);
	// Who does not claim the class is measured, as before.
	let card = out.join("model.json");
	let mut value: Value = serde_json::from_slice(&fs::read(&card).unwrap()).unwrap();
	value["numerics"]["element_type"] = "int8".into();
	fs::write(card, value.to_string()).unwrap();
	let why = import(&out).unwrap_err();
	assert!(matches!(why, ImportError::NotExact { .. }), "{why}");
}

#[test]
fn what_the_proof_is_not_about_is_refused_with_what_to_do() {
	let (_keep, out) = made();
	let manifest = import(&out).unwrap().manifest;
	let loads = |change: &dyn Fn(&mut Manifest)| {
		let mut manifest = manifest.clone();
		change(&mut manifest);
		let loaded = engine().load_manifest(&out, manifest);
		loaded.map(|_| ()).map_err(|e| e.to_string())
	};
	assert_eq!(loads(&|_| ()), Ok(()));
	type Change<'c> = &'c dyn Fn(&mut Manifest);
	let of_text = |change: fn(&mut u32, &mut u32)| {
		move |manifest: &mut Manifest| {
			if let TaskDetails::TextGeneration {
				context,
				vocabulary,
				..
			} = &mut manifest.task
			{
				change(context, vocabulary);
			}
		}
	};
	let cases: [(&str, Change<'_>); 4] = [
		("set it to \"disable\"", &|m| {
			m.numerics.optimization = "all".into()
		}),
		("write the class exact", &|m| {
			m.policy = crate::fixtures::policy(NumericClass::Tolerant);
			m.reference.evidence.fingerprint = Fingerprint::Values {
				tag: 0,
				values: List::new(),
			};
		}),
		(
			"384 positions at most, and the manifest asks for 385",
			&of_text(|context, _| *context += 1),
		),
		(
			"64 tokens of its vocabulary at most, and the manifest asks for 65",
			&of_text(|_, vocabulary| *vocabulary += 1),
		),
	];
	for (part, change) in cases {
		let why = loads(change).unwrap_err();
		assert!(
			why.contains("the integer class") && why.contains(part),
			"{part}: {why}"
		);
	}
	let config = EngineConfig {
		optimization: Some("all".into()),
		..Default::default()
	};
	let why = Engine::new(config)
		.unwrap()
		.load_manifest(&out, manifest.clone());
	assert!(
		matches!(&why, Err(EngineError::Mismatch(why)) if why.contains("as they stand")),
		"{why:?}"
	);
	// More rows than the proof is about.
	let config = EngineConfig {
		answers: 1 << 20,
		..Default::default()
	};
	let why = Engine::new(config)
		.unwrap()
		.load_manifest(&out, manifest.clone());
	assert!(
		matches!(&why, Err(EngineError::Mismatch(why)) if why.contains("dimension \"B\"")),
		"{why:?}"
	);
	// Proven, and still not what can be run on one memory.
	add_node(&out, "Identity", "past_key_values.1.value");
	let why = loads(&|_| ()).unwrap_err();
	assert!(
		why.contains("\"added\" (Identity)") && why.contains("present.1.value"),
		"{why}"
	);
}

#[test]
fn a_card_of_the_class_is_not_tolerant() {
	let (_keep, out) = made();
	let card = out.join("model.json");
	let mut value: Value = serde_json::from_slice(&fs::read(&card).unwrap()).unwrap();
	for (class, of_policy) in [
		(json!("tolerant"), json!("tolerant")),
		(Value::Null, Value::Null),
	] {
		value["class"] = class.clone();
		value["policy"]["class"] = of_policy;
		if class.is_null() {
			value.as_object_mut().unwrap().remove("class");
			value["policy"].as_object_mut().unwrap().remove("class");
		}
		fs::write(&card, value.to_string()).unwrap();
		match import(&out) {
			Ok(import) => assert_eq!(
				(class, import.manifest.policy.class),
				(Value::Null, NumericClass::Exact)
			),
			Err(why) => assert!(why.to_string().contains("write the class exact"), "{why}"),
		}
	}
}

/// The model of the fixture, as all tests of language models take it.
#[test]
fn the_fixture_s_manifest_is_of_the_class() {
	let manifest = text(NAME, NumericClass::Exact);
	assert_eq!(manifest.numerics.element_type, INTEGER);
	engine().load_manifest(&folder(NAME), manifest).unwrap();
}
