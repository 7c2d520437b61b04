//! `consilience verify` as it is shipped, against a node that says what a test has it say: from its words to the exit status. The
//! models are those of `scripts/setup models`.

#![allow(clippy::unwrap_used)]

use std::{
	path::{Path, PathBuf},
	process::{Command, Output as Ended},
};

use codec::Encode;
use consilience_engine::{Engine, EngineConfig};
use consilience_primitives::{
	evidence::Evidence,
	manifest::Manifest,
	request::{Assurance, Input, Message, Output, Prompt, Role, Sampling},
	view::{RequestState, RequestView},
	ModelId,
};
use consilience_runtime::{AccountId, Balance, BlockNumber, VERSION};
use consilience_store::{Import, Runner, Signature, Store};
use jsonrpsee::{server::Server, types::ErrorObjectOwned, RpcModule};
use polkadot_sdk::sp_core::{Bytes, H256};
use serde_json::{json, Value};

type Request = RequestView<AccountId, BlockNumber, Balance>;

const CHALLENGE: H256 = H256::repeat_byte(1);
const SEED: H256 = H256::repeat_byte(2);
const NOW: BlockNumber = 50;

/// Folder of a model that `scripts/setup models` made.
fn model(name: &str) -> PathBuf {
	let variable = |name| std::env::var_os(name).map(PathBuf::from);
	let home = || {
		variable("CONSILIENCE_HOME")
			.or_else(|| variable("HOME").map(|h| h.join(".local/share/consilience")))
			.map(|h| h.join("models"))
	};
	let path = variable("CONSILIENCE_MODELS")
		.or_else(home)
		.unwrap()
		.join(name);
	assert!(
		path.is_dir(),
		"{} is missing: run scripts/setup models",
		path.display()
	);
	path
}

/// The engine in this process.
struct InProcess(Engine);

impl Runner for InProcess {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		let info = self.0.inspect(graph).map_err(|e| e.to_string())?;
		Ok(Signature {
			inputs: info.inputs,
			outputs: info.outputs,
		})
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		let run = || {
			let model = self.0.load_manifest(folder, manifest.clone())?;
			let reference = self.0.reference(model);
			self.0.unload(model);
			reference
		};
		run().map_err(|e| e.to_string())
	}
}

/// A model in the store of a base path, and in an engine.
struct Home {
	base: tempfile::TempDir,
	engine: Engine,
	model: ModelId,
}

impl Home {
	fn new(name: &str) -> Self {
		consilience_engine::disable_telemetry();
		let base = tempfile::tempdir().unwrap();
		let runner = InProcess(Engine::new(EngineConfig::default()).unwrap());
		let store = Store::open(base.path().join("models")).unwrap();
		let import = Import::read(&model(name), &runner, &mut |_| ()).unwrap();
		let model = import.put(&store, &mut |_| ()).unwrap();
		let stored = store.get(model).unwrap();
		let engine = runner.0;
		engine
			.load_manifest(&stored.folder, stored.manifest)
			.unwrap();
		Self {
			base,
			engine,
			model,
		}
	}

	fn answer(&self, seed: H256) -> Output {
		self.engine
			.run(self.model, &question().into(), &seed)
			.unwrap()
	}

	/// A final request with this answer, which executor and verifier measured as this model's.
	fn request(&self, answer: &Output) -> Request {
		let measured = self
			.engine
			.measure(
				self.model,
				&question().into(),
				&SEED,
				Some(answer),
				&CHALLENGE,
			)
			.unwrap();
		let account = |n: u8| AccountId::from([n; 32]);
		Request {
			id: 5,
			requester: account(9),
			model: self.model,
			input: question().into(),
			assurance: Assurance::Committee(1),
			state: RequestState::Final,
			seed: Some(SEED),
			challenge: Some(CHALLENGE),
			executor: Some(account(1)),
			verifiers: vec![account(2)],
			jurors: vec![],
			output: Some(answer.clone()),
			evidence: vec![(account(1), measured.clone()), (account(2), measured)],
			jury_challenge: None,
			requested_at: 10,
			assigned_at: Some(11),
			provisional_at: Some(12),
			appealable_until: Some(NOW),
			settled_at: Some(15),
			escrow: 100,
			paid: 90,
			surcharge: 0,
			refunded: 10,
		}
	}

	/// What `consilience verify` makes of a request, and how it ends.
	fn verify(&self, request: Request, more: &[&str]) -> (i32, Value) {
		let runtime = tokio::runtime::Runtime::new().unwrap();
		let (url, node) = runtime.block_on(serve(request));
		let mut command = Command::new(env!("CARGO_BIN_EXE_consilience"));
		command
			.args(["verify", "5", "--json", "--url", &url, "--base-path"])
			.arg(self.base.path())
			.args(more);
		let Ended {
			status,
			stdout,
			stderr,
		} = command.output().unwrap();
		drop(node);
		let (stdout, stderr) = (
			String::from_utf8_lossy(&stdout).into_owned(),
			String::from_utf8_lossy(&stderr).into_owned(),
		);
		let value = serde_json::from_str(&stdout)
			.unwrap_or_else(|e| panic!("{e}: {status}\n{stdout}\n{stderr}"));
		(status.code().unwrap(), value)
	}
}

fn question() -> Input {
	let message = Message {
		role: Role::User,
		content: b"Name three fruits.".to_vec().try_into().unwrap(),
	};
	Input::TextGeneration {
		prompt: Prompt::Chat(vec![message].try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 12,
			temperature: 1_000,
			..Default::default()
		},
	}
}

/// A node at block [`NOW`] that knows this request and no model.
async fn serve(request: Request) -> (String, jsonrpsee::server::ServerHandle) {
	let mut module = RpcModule::new(request);
	let version = json!({
		"specName": VERSION.spec_name,
		"specVersion": VERSION.spec_version,
		"transactionVersion": VERSION.transaction_version,
	});
	let header = json!({ "number": format!("{NOW:#x}") });
	let hash = H256::repeat_byte(8);
	for (name, reply) in [
		("state_getRuntimeVersion", version),
		("chain_getHeader", header),
		("chain_getBlockHash", json!(hash)),
		("chain_getFinalizedHead", json!(hash)),
	] {
		module
			.register_method(name, move |_, _, _| reply.clone())
			.unwrap();
	}
	module
		.register_method("state_call", |parameters, request, _| {
			let (function, _, _): (String, Bytes, Option<H256>) = parameters.parse()?;
			Ok::<_, ErrorObjectOwned>(Bytes(match &function[..] {
				"InferenceApi_request" => Some(request).encode(),
				"InferenceApi_model" => None::<()>.encode(),
				other => panic!("{other}"),
			}))
		})
		.unwrap();
	let server = Server::builder().build("127.0.0.1:0").await.unwrap();
	let url = format!("ws://{}", server.local_addr().unwrap());
	(url, server.start(module))
}

#[test]
fn an_exact_answer_is_right_bit_for_bit_or_wrong_at_a_token() {
	let home = Home::new("smollm2-135m-instruct-fp32");
	let right = home.answer(SEED);
	let Output::Text { text, .. } = &right else {
		panic!("no text: {right:?}")
	};
	let file = home.base.path().join("answer.txt");
	std::fs::write(&file, &text[..]).unwrap();
	let held = ["--output", file.to_str().unwrap()];
	let (status, found) = home.verify(home.request(&right), &held);
	assert_eq!((status, &found["verdict"]), (0, &json!("right")), "{found}");
	assert_eq!(
		(&found["class"], &found["held"]),
		(&json!("exact"), &json!(true))
	);
	assert_eq!(found["members"][0]["fingerprint"], "equal", "{found}");
	assert_eq!(found["measured"]["margin_max"], 0);
	assert_eq!(found["finalized"], true);

	// What the model says with another seed: nothing about it looks wrong.
	let other = home.answer(H256::repeat_byte(3));
	let tokens = |o: &Output| match o {
		Output::Text { tokens, .. } => tokens.iter().map(|t| t.0).collect::<Vec<_>>(),
		_ => panic!("no text"),
	};
	let (a, b) = (tokens(&right), tokens(&other));
	let first = (0..a.len().min(b.len())).find(|i| a[*i] != b[*i]).unwrap();
	let mut request = home.request(&other);
	request.evidence[0].1.verdict = Default::default();
	let (status, found) = home.verify(request, &[]);
	assert_eq!((status, &found["verdict"]), (1, &json!("wrong")), "{found}");
	let place = json!({ "index": first, "claimed": b[first], "model": a[first] });
	assert_eq!(found["wrong_at"], place);
	assert_eq!(found["members"][0]["fingerprint"], "equal", "{found}");
	assert!(
		found["members"][0]["false"].is_string(),
		"it vouched: {found}"
	);
	assert!(
		found["members"][1]["false"].is_null(),
		"it measured: {found}"
	);
	assert_eq!(found["appeal"]["until"], NOW);

	// What cannot be checked.
	let mut request = home.request(&right);
	request.model = ModelId::repeat_byte(6);
	let (status, found) = home.verify(request, &[]);
	assert_eq!((status, &found["verdict"]), (2, &json!("unchecked")));
	let reason = found["reason"].as_str().unwrap();
	assert!(reason.contains("consilience model import"), "{reason}");
	let mut request = home.request(&right);
	request.output = None;
	assert_eq!(home.verify(request, &[]).0, 2);
}

#[test]
fn a_tolerant_answer_is_judged_by_its_policy() {
	let home = Home::new("smollm2-135m-instruct-int4");
	let right = home.answer(SEED);
	let (status, found) = home.verify(home.request(&right), &[]);
	assert_eq!((status, &found["verdict"]), (0, &json!("right")), "{found}");
	assert_eq!(found["class"], "tolerant");
	let closeness = &found["members"][0]["fingerprint"];
	assert!(closeness == "equal" || closeness == "within", "{found}");

	let (status, found) = home.verify(home.request(&home.answer(H256::repeat_byte(3))), &[]);
	assert_eq!((status, &found["verdict"]), (1, &json!("wrong")), "{found}");
	assert!(found["wrong_at"]["index"].is_u64(), "{found}");
}
