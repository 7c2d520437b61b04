//! Where models run: what the configuration and a numerics profile say, and what happens where CUDA does not work.
//!
//! No machine has the device that the first tests ask for. Those that are ignored need one: `scripts/cuda-check` runs them, with
//! `CONSILIENCE_TEST_PROVIDER` set.

use std::{
	io::Write,
	sync::{Arc, Mutex},
};

use consilience_engine::{Engine, EngineConfig, EngineError, Provider};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint},
	manifest::Manifest,
	model::NumericClass::{Exact, Tolerant},
	request::{FullInput, Output, Prompt, Sampling},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use crate::fixtures::{folder, provider, text};

const NOWHERE: Provider = Provider::Cuda { device: 99 };
const CPU: &str = "CPUExecutionProvider";
const CUDA: &str = "CUDAExecutionProvider";

/// A language model of the tolerant class whose profile admits these.
fn admitting(providers: &[&str]) -> Manifest {
	let mut manifest = text("llama-hub", Tolerant);
	manifest.numerics.providers = providers.iter().map(|p| (*p).into()).collect();
	manifest
}

fn engine(config: EngineConfig) -> Engine {
	let config = EngineConfig {
		threads: 1,
		..config
	};
	Engine::new(config).expect("the tests need ONNX Runtime: run ./scripts/setup")
}

fn load(engine: &Engine, manifest: Manifest) -> Result<(ModelId, Provider), EngineError> {
	let model = engine.load_manifest(&folder(&manifest.name), manifest)?;
	Ok((model, engine.provider(model)?))
}

fn question() -> FullInput {
	FullInput::TextGeneration {
		prompt: Prompt::Text("t5 t6 t7 ".repeat(5).into_bytes().try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 200,
			temperature: 1_000,
			..Default::default()
		},
	}
}

fn answer(engine: &Engine, model: ModelId) -> Output {
	engine.run(model, &question(), &H256::zero()).unwrap()
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
	fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
		self.0.lock().unwrap().write(bytes)
	}

	fn flush(&mut self) -> std::io::Result<()> {
		Ok(())
	}
}

impl Log {
	fn of(&self, what: impl FnOnce()) -> String {
		let log = self.clone();
		let subscriber = tracing_subscriber::fmt()
			.with_writer(move || log.clone())
			.with_ansi(false)
			.finish();
		tracing::subscriber::with_default(subscriber, what);
		String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
	}
}

#[test]
fn where_cuda_does_not_work_the_cpu_does_and_the_log_says_so() {
	let expected = engine(EngineConfig::default());
	let (model, _) = load(&expected, admitting(&[CPU, CUDA])).unwrap();
	let expected = answer(&expected, model);
	let engine = engine(EngineConfig {
		provider: NOWHERE,
		..Default::default()
	});
	let log = Log::default().of(|| {
		let (model, provider) = load(&engine, admitting(&[CPU, CUDA])).unwrap();
		assert_eq!(provider, Provider::Cpu);
		assert_eq!(answer(&engine, model), expected);
	});
	let warnings: Vec<_> = log.lines().filter(|l| l.contains("WARN")).collect();
	assert!(
		matches!(warnings[..], [w] if w.contains("cuda:99 is not available, running on the CPU instead: ")),
		"{log}"
	);
	assert!(log.contains("model.onnx loaded on cpu"), "{log}");
}

#[test]
fn where_cuda_is_demanded_and_does_not_work_the_model_is_refused() {
	// Demanded by the operator, then by the model's profile, which does not admit the CPU.
	for (no_fallback, providers) in [(true, &[CPU, CUDA][..]), (false, &[CUDA])] {
		let engine = engine(EngineConfig {
			provider: NOWHERE,
			no_fallback,
			..Default::default()
		});
		let error = load(&engine, admitting(providers)).unwrap_err();
		let EngineError::Load { path, why } = &error else {
			panic!("{error:?}")
		};
		assert!(path.ends_with("model.onnx"), "{path}");
		assert!(
			why.contains("cuda:99 is demanded and not available: "),
			"{why}"
		);
		assert!(engine.loaded().is_empty());
	}
}

#[test]
fn a_model_runs_where_its_profile_and_its_operator_say() {
	let here = |config: EngineConfig, manifest| {
		let config = EngineConfig {
			no_fallback: true,
			..config
		};
		load(&engine(config), manifest).map(|(_, provider)| provider)
	};
	let everywhere = |provider| EngineConfig {
		provider,
		..Default::default()
	};
	let own = |manifest: &Manifest, provider, otherwise| EngineConfig {
		providers: vec![(manifest.id(), provider)],
		..everywhere(otherwise)
	};
	let both = admitting(&[CUDA, CPU]);
	for (what, config, manifest) in [
		(
			"a profile without CUDA",
			everywhere(NOWHERE),
			admitting(&[CPU]),
		),
		(
			"an exact model",
			everywhere(NOWHERE),
			text("llama-fp32", Exact),
		),
		(
			"one model apart",
			own(&both, Provider::Cpu, NOWHERE),
			both.clone(),
		),
		(
			"another apart",
			own(&admitting(&[CPU]), NOWHERE, Provider::Cpu),
			both.clone(),
		),
	] {
		assert_eq!(here(config, manifest), Ok(Provider::Cpu), "{what}");
	}
	// Whoever measures what a profile should be is not bound by it.
	let beyond = EngineConfig {
		beyond_profile: true,
		..everywhere(NOWHERE)
	};
	for (config, manifest) in [
		(own(&both, NOWHERE, Provider::Cpu), both),
		(beyond, admitting(&[CPU])),
	] {
		let error = here(config, manifest).unwrap_err();
		assert!(error.to_string().contains("cuda:99"), "{error}");
	}
	let error = here(everywhere(Provider::Cpu), admitting(&[CUDA])).unwrap_err();
	assert!(
		matches!(&error, EngineError::Mismatch(why) if why.contains(CUDA)),
		"{error}"
	);
}

#[test]
fn a_library_outside_the_profile_is_refused() {
	let mut manifest = admitting(&[CPU]);
	manifest.numerics.onnxruntime_min = "1.20.1".into();
	manifest.numerics.onnxruntime_max = "1.31.0".into();
	let config = EngineConfig::default();
	let error = load(&engine(config), manifest.clone()).unwrap_err();
	assert!(
		error
			.to_string()
			.contains("1.20.1 to 1.31.0, and this is 1.31.1"),
		"{error}"
	);
	let config = EngineConfig {
		beyond_profile: true,
		..Default::default()
	};
	load(&engine(config), manifest).unwrap();
}

fn on_device(device_memory: Option<u64>, no_fallback: bool) -> EngineConfig {
	assert_ne!(
		provider(),
		Provider::Cpu,
		"CONSILIENCE_TEST_PROVIDER names the device"
	);
	EngineConfig {
		provider: provider(),
		no_fallback,
		device_memory,
		..Default::default()
	}
}

fn values(evidence: &Evidence) -> &[i32] {
	match &evidence.fingerprint {
		Fingerprint::Values { values, .. } => values,
		other => panic!("{other:?}"),
	}
}

#[test]
#[ignore = "needs a CUDA device"]
fn on_a_device_answers_and_evidence_are_near_the_cpus() {
	// Largest difference of a logit in steps of 1/256, and of a margin in steps of 1/65536.
	for (name, largest, margin) in [("llama-hub", 1, 66), ("grouped-fp16", 32, 8_192)] {
		let mut manifest = admitting(&[CUDA, CPU]);
		let other = text(name, Tolerant);
		(manifest.name, manifest.task) = (other.name, other.task);
		let device = engine(on_device(Some(1 << 30), true));
		let (model, found) = load(&device, manifest.clone()).unwrap();
		assert_eq!(found, provider(), "{name}");
		let cpu = engine(EngineConfig::default());
		assert_eq!(load(&cpu, manifest).unwrap().1, Provider::Cpu);
		for writer in [&device, &cpu] {
			let output = answer(writer, model);
			assert!(output.units() > 1, "{output:?}");
			let of = |engine: &Engine| {
				let challenge = H256::repeat_byte(9);
				engine
					.measure(model, &question(), &H256::zero(), Some(&output), &challenge)
					.unwrap()
			};
			let (a, b) = (of(&device), of(&cpu));
			assert_eq!(a, of(&device), "{name}: a device agrees with itself");
			for evidence in [&a, &b] {
				let found = evidence.verdict.margin_max;
				assert!(found <= margin, "{name}: a margin of {found}");
			}
			assert_eq!(values(&a).len(), values(&b).len());
			for (x, y) in values(&a).iter().zip(values(&b)) {
				assert!(x.abs_diff(*y) <= largest, "{name}: {x} and {y}");
			}
		}
	}
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_model_that_does_not_fit_the_devices_budget_runs_on_the_cpu_or_not_at_all() {
	let load = |no_fallback| {
		let engine = engine(on_device(Some(1), no_fallback));
		load(&engine, admitting(&[CUDA, CPU])).map(|(model, provider)| {
			answer(&engine, model);
			provider
		})
	};
	assert_eq!(load(false), Ok(Provider::Cpu));
	let error = load(true).unwrap_err();
	assert!(error.to_string().contains("is demanded"), "{error}");
}
