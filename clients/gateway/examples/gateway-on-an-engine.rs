//! A gateway on a model alone, without a chain, validators or checks: the bar for `scripts/bench access`.
//!
//! Takes chats, of which it reads messages, `max_tokens` and `temperature`.

use std::{
	collections::HashMap,
	net::SocketAddr,
	path::PathBuf,
	sync::{
		atomic::{AtomicU32, Ordering},
		Arc, Mutex, MutexGuard,
	},
	time::Duration,
};

use async_trait::async_trait;
use clap::Parser;
use consilience_engine::{Engine, EngineConfig};
use consilience_gateway::{
	lane::{Event, Lane, Outcome, Quote as LaneQuote, Receipt, Status},
	network::{
		Ask, Block, Finish, FollowError, Input, Keep, Model, Network, Price, Quote, Recovered,
		Refusal, Step, Task, Ticket,
	},
	Config, Gateway,
};
use consilience_primitives::{
	manifest::Manifest,
	request::{FinishReason, FullInput, Message, Output, Prompt, Role, Sampling},
	ModelId,
};
use futures::{
	future::BoxFuture,
	stream::{self, BoxStream, StreamExt},
};
use serde_json::{json, Value};
use tokio::sync::mpsc::unbounded_channel;

/// A gateway on a model alone.
#[derive(Parser)]
struct Arguments {
	/// A model's folder in a node's store.
	model: PathBuf,
	/// Where it listens; what it became is the first line of its output.
	#[arg(long, default_value = "127.0.0.1:0")]
	listen: SocketAddr,
	/// Folder of the journal.
	#[arg(long)]
	data: PathBuf,
	/// Threads of a graph's operators.
	#[arg(long, default_value_t = 1)]
	threads: u32,
}

#[derive(Clone)]
struct Alone(Arc<Inner>);

struct Inner {
	engine: Engine,
	id: ModelId,
	model: Model,
	outcomes: Mutex<HashMap<u32, Outcome>>,
	/// How many were asked.
	numbers: AtomicU32,
}

impl Alone {
	fn load(arguments: &Arguments) -> Result<Self, Box<dyn std::error::Error>> {
		let engine = Engine::new(EngineConfig {
			threads: arguments.threads,
			..Default::default()
		})?;
		let id = engine.load(&arguments.model)?;
		engine.reference(id)?;
		let manifest = std::fs::read(arguments.model.join("manifest.json"))?;
		let manifest: Manifest = serde_json::from_slice(&manifest)?;
		let model = Model {
			id: format!("{id:?}"),
			name: manifest.name.clone(),
			task: Task::TextGeneration,
			chat: true,
			class: "exact".into(),
			status: "active".into(),
			owner: String::new(),
			size: manifest.files.iter().map(|file| file.size).sum(),
			price: Price {
				per_request: 0,
				per_input_unit: 0,
				per_output_unit: 0,
			},
			max_input_units: manifest.limits.max_input_units,
			max_output_units: manifest.limits.max_output_units,
			context_length: None,
			dimensions: None,
			serving: 1,
			min_verifiers: 0,
			policy: Value::Null,
			inputs: vec![],
			sampling: json!({}),
			license: None,
			source: None,
		};
		Ok(Self(Arc::new(Inner {
			engine,
			id,
			model,
			outcomes: Mutex::default(),
			numbers: AtomicU32::default(),
		})))
	}

	fn outcomes(&self) -> MutexGuard<'_, HashMap<u32, Outcome>> {
		self.0.outcomes.lock().unwrap_or_else(|e| e.into_inner())
	}

	/// Answers on this thread.
	fn answer(
		&self,
		number: u32,
		input: &FullInput,
		mut tell: impl FnMut(Event),
	) -> Result<(), Refusal> {
		let mut shown = 0;
		let seed = Manifest::reference_seed();
		let mut see = |_: Vec<u32>, text: &str| {
			shown += text.len();
			tell(Event::Text(text.into()));
		};
		let output = self.0.engine.stream(self.0.id, input, &seed, &mut see);
		let output = output.map_err(|e| Refusal::Other(e.to_string()))?;
		let Output::Text {
			tokens,
			text,
			finish,
		} = output
		else {
			return Err(Refusal::Other("the model generates no text".into()));
		};
		let text = String::from_utf8_lossy(&text).into_owned();
		if let Some(rest) = text.get(shown..).filter(|rest| !rest.is_empty()) {
			tell(Event::Text(rest.into()));
		}
		let outcome = Outcome {
			number,
			question: number.to_string(),
			executor: String::new(),
			seed: format!("{seed:?}"),
			text,
			tokens: tokens.len() as u32,
			finish: Some(match finish {
				FinishReason::EndOfText => Finish::EndOfText,
				FinishReason::StopString => Finish::StopString,
				FinishReason::Length => Finish::Length,
			}),
			whole: true,
			// Without one, an answer is not whole.
			receipt: Some(Receipt {
				hash: String::new(),
				signature: String::new(),
				anchor: Block {
					number: 0,
					hash: String::new(),
				},
				input_units: input.units(),
				output_units: tokens.len() as u32,
				amount: 0,
			}),
			checkers: vec![],
			status: Status::Answered,
			right: 0,
			of: 0,
			paid: 0,
		};
		self.outcomes().insert(number, outcome.clone());
		tell(Event::Answered(Box::new(outcome.clone())));
		tell(Event::Done(Box::new(outcome)));
		Ok(())
	}
}

fn input(ask: &Ask) -> Result<FullInput, Refusal> {
	let Input::Chat { messages, sampling } = &ask.input else {
		return Err(Refusal::Input("only chats are taken".into()));
	};
	let too_long = || Refusal::TooLong("the chat is too long".into());
	let mut taken = Vec::new();
	for message in messages {
		let role = match message.role.as_str() {
			"system" => Role::System,
			"user" => Role::User,
			"assistant" => Role::Assistant,
			other => return Err(Refusal::Input(format!("the role {other:?} is not taken"))),
		};
		let content = message.content.clone().into_bytes().try_into();
		let content = content.map_err(|_| too_long())?;
		taken.push(Message { role, content });
	}
	let greedy = Sampling::default();
	Ok(FullInput::TextGeneration {
		prompt: Prompt::Chat(taken.try_into().map_err(|_| too_long())?),
		sampling: Sampling {
			max_tokens: sampling.max_tokens.unwrap_or(greedy.max_tokens),
			temperature: (sampling.temperature.unwrap_or(0.0) * 1_000.0) as u16,
			..greedy
		},
	})
}

#[async_trait]
impl Network for Alone {
	async fn models(&self) -> Result<Vec<Model>, Refusal> {
		Ok(vec![self.0.model.clone()])
	}

	async fn quote(&self, _: &Ask) -> Result<Quote, Refusal> {
		Err(Refusal::NotActive)
	}

	async fn submit(&self, _: &Ask, _: u128, _: &dyn Keep) -> Result<u64, Refusal> {
		Err(Refusal::NotActive)
	}

	async fn recover(&self, _: &Ticket) -> Result<Recovered, Refusal> {
		Ok(Recovered::Lost)
	}

	fn follow(&self, _: u64, _: &Ticket) -> BoxStream<'static, Result<Step, FollowError>> {
		stream::once(async { Err(FollowError::Forgotten) }).boxed()
	}
}

#[async_trait]
impl Lane for Alone {
	fn channel(&self) -> u64 {
		0
	}

	async fn serving(&self, _: &str) -> Result<u32, Refusal> {
		Ok(1)
	}

	async fn quote(&self, ask: &Ask) -> Result<LaneQuote, Refusal> {
		Ok(LaneQuote {
			fee: 0,
			input_units: input(ask)?.units(),
			question: String::new(),
			from: self.0.numbers.load(Ordering::Relaxed),
		})
	}

	fn ask(
		&self,
		ask: &Ask,
		_: BoxFuture<'static, ()>,
	) -> BoxStream<'static, Result<Event, Refusal>> {
		let (events, told) = unbounded_channel();
		let (alone, ask) = (self.clone(), ask.clone());
		// The engine writes as many at a time as it can, and has the rest wait.
		std::thread::spawn(move || {
			// Whoever asked may be gone.
			let tell = |event| {
				let _ = events.send(event);
			};
			let number = alone.0.numbers.fetch_add(1, Ordering::Relaxed);
			tell(Ok(Event::Started {
				executor: String::new(),
				number,
			}));
			let answered =
				input(&ask).and_then(|input| alone.answer(number, &input, |event| tell(Ok(event))));
			if let Err(refusal) = answered {
				tell(Err(refusal));
			}
		});
		stream::unfold(
			told,
			|mut told| async move { Some((told.recv().await?, told)) },
		)
		.boxed()
	}

	async fn next_number(&self) -> Result<u32, String> {
		Ok(self.0.numbers.load(Ordering::Relaxed))
	}

	async fn outcome(&self, number: u32) -> Result<Option<Outcome>, String> {
		Ok(self.outcomes().get(&number).cloned())
	}

	async fn record(&self, _: u32) -> Result<Option<Value>, String> {
		Ok(None)
	}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
	tracing_subscriber::fmt()
		.with_writer(std::io::stderr)
		.init();
	let arguments = Arguments::parse();
	let alone = Alone::load(&arguments)?;
	let mut config = Config::new(arguments.listen, arguments.data);
	config.ping = Duration::from_secs(5);
	let lane: Arc<dyn Lane> = Arc::new(alone.clone());
	let gateway = Gateway::bind(config, Arc::new(alone), vec![lane]).await?;
	println!("http://{}", gateway.address());
	gateway
		.run(async {
			let _ = tokio::signal::ctrl_c().await;
		})
		.await;
	Ok(())
}
