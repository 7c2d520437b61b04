//! `consilience chat`.

use std::{
	io::{BufRead, IsTerminal, Write},
	sync::Arc,
	time::Instant,
};

use consilience_primitives::{
	model::Task,
	request::{Input, Message, Prompt, Role, MAX_MESSAGES},
	Bytes, List,
};
use consilience_rpc::JsonSampling;
use consilience_session::{AskOptions, Client, Event, Settings, Status};
use futures::StreamExt;
use polkadot_sdk::sc_cli;
use serde_json::json;

use super::{
	channel::{find, open, usable, wallet, WalletFolder},
	network::Network,
};
use crate::tool::{
	block_on,
	chain::{address, pair, Model},
	csl,
	input::{followed, ConstraintArguments},
	parse_csl, Format, NodeAddress, Result,
};

/// Talk to a model through the session lane: answers stream from a validator, and others check them within moments. Opens a channel
/// if the wallet has none.
#[derive(Debug, clap::Args)]
pub(crate) struct ChatCommand {
	/// The model's id or name.
	#[arg(long)]
	model: String,

	/// What to say; without it, each line of standard input is said in turn.
	message: Option<String>,

	/// Instructions, before everything else.
	#[arg(long)]
	system: Option<String>,

	/// Most tokens of an answer.
	#[arg(long, default_value_t = 256)]
	max_tokens: u32,

	/// Temperature, 0 (always the likeliest token) to 2 [default: as the model's publisher advises, or 0].
	#[arg(long)]
	temperature: Option<f64>,

	#[command(flatten)]
	constraint: ConstraintArguments,

	/// Validators that check each answer.
	#[arg(long, default_value_t = 2)]
	checks: u32,

	/// CSL to be held for a channel, if there is none yet.
	#[arg(long, value_parser = parse_csl, default_value = "10")]
	deposit: u128,

	/// Each line of standard input is a question of its own: what was said before is not sent with it.
	#[arg(long, conflicts_with = "message")]
	no_history: bool,

	/// Secret of the account that opens a channel, if there is none yet: a phrase, a seed in hexadecimal, or a development key such as
	/// //Alice.
	#[arg(long)]
	suri: Option<String>,

	#[command(flatten)]
	wallet: WalletFolder,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

/// Printed after an answer that a checker has refuted.
const REFUTED: &str = "a checker found that the model does not say this: do not rely on it";

fn text<const N: u32>(text: &str) -> Result<Bytes<N>> {
	text.as_bytes()
		.to_vec()
		.try_into()
		.map_err(|_| format!("what is said is longer than {N} bytes"))
}

impl ChatCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		block_on(self.talk())
	}

	async fn talk(&self) -> Result<()> {
		let network = Network::connect(&self.node.url).await?;
		let model = network.0.find_model(&self.model).await?;
		if model.spec.task != Task::TextGeneration {
			return Err(format!(
				"the model {} generates no text: ask it with `consilience infer`",
				self.model
			));
		}
		let client = self.client(&network, &model).await?;
		if self.message.is_none() {
			network.0.read_ahead();
		}
		let said = self.converse(&network, &client, &model).await;
		// Whoever was paid last has that before the process ends.
		client.close().await;
		said
	}

	/// Says the message, or each line of standard input.
	async fn converse(&self, network: &Network, client: &Client, model: &Model) -> Result<()> {
		let mut conversation = Vec::new();
		if let Some(system) = &self.system {
			conversation.push(Message {
				role: Role::System,
				content: text(system)?,
			});
		}
		if let Some(message) = &self.message {
			return self
				.turn(network, client, model, &mut conversation, message)
				.await;
		}
		let people = std::io::stdin().is_terminal();
		let (mut asked, mut failed) = (0_u32, 0_u32);
		loop {
			if people {
				eprint!("> ");
				let _ = std::io::stderr().flush();
			}
			// Reading blocks; nothing else happens meanwhile but pings.
			let line = tokio::task::spawn_blocking(|| {
				let mut line = String::new();
				let read = std::io::stdin().lock().read_line(&mut line);
				read.map(|count| (count > 0).then_some(line))
			});
			let line = line.await.map_err(|e| e.to_string())?;
			let Some(line) = line.map_err(|e| format!("standard input: {e}"))? else {
				return match failed {
					0 => Ok(()),
					_ => Err(format!(
						"{failed} of {asked} questions have no answer to rely on"
					)),
				};
			};
			if line.trim().is_empty() {
				continue;
			}
			if self.no_history {
				conversation.truncate(usize::from(self.system.is_some()));
			}
			asked += 1;
			let said = self
				.turn(network, client, model, &mut conversation, line.trim())
				.await;
			// What fails is one question: there may be a place for the next, or a person who asks something else.
			if let Err(error) = said {
				failed += u32::from(!people);
				self.note(&error);
				// Of one that is refuted, the last event says so.
				if error != REFUTED {
					self.event(json!({ "event": "error", "why": error }));
				}
			}
		}
	}

	/// The client of the wallet's channel, which is opened if there is none.
	async fn client(&self, network: &Network, model: &Model) -> Result<Client> {
		let wallet = wallet(&self.wallet.path())?;
		let channel = match wallet.bound() {
			Ok(bound) if bound.genesis != network.0.genesis() => {
				return Err(format!(
					"the wallet {} is of another chain: name another folder with --wallet",
					self.wallet.path().display()
				));
			}
			Ok(bound) => bound.channel,
			Err(_) => {
				let suri = self.suri.as_ref().ok_or(
					"the wallet has no channel yet: say with --suri which account opens one, and with --deposit what it holds",
				)?;
				let pair = pair(suri)?;
				match find(network, &wallet, &pair).await? {
					Some(channel) => channel,
					None => {
						self.note(&format!(
							"opening a channel with a deposit of {}",
							csl(self.deposit)
						));
						open(network, &wallet, &pair, model.id, self.deposit, &[]).await?
					}
				}
			}
		};
		usable(network, channel).await?;
		Client::open(
			Arc::new(network.clone()),
			Arc::new(wallet),
			Settings::default(),
		)
		.await
		.map_err(|e| e.to_string())
	}

	/// Says something for people.
	fn note(&self, words: &str) {
		eprintln!("{words}");
	}

	/// What is asked, with what was said before.
	fn input(&self, model: &Model, conversation: &[Message]) -> Result<Input> {
		let sampling = JsonSampling {
			max_tokens: Some(self.max_tokens),
			temperature: self.temperature,
			constraint: self.constraint.read()?,
			..Default::default()
		};
		let prompt = match (model.spec.chat, conversation.last()) {
			(false, Some(last)) => Prompt::Text(last.content.clone()),
			_ => Prompt::Chat(List::truncate_from(conversation.to_vec())),
		};
		followed(Input::text(
			prompt,
			sampling.resolve(&model.spec.sampling)?,
			sampling.constraint()?,
		))
	}

	/// Says one thing, and shows the answer as it comes and what checkers find.
	async fn turn(
		&self,
		network: &Network,
		client: &Client,
		model: &Model,
		conversation: &mut Vec<Message>,
		message: &str,
	) -> Result<()> {
		conversation.push(Message {
			role: Role::User,
			content: text(message)?,
		});
		// The oldest are forgotten, the instructions are not.
		let keep = usize::from(self.system.is_some());
		while conversation.len() >= MAX_MESSAGES as usize {
			conversation.drain(keep..keep + 2);
		}
		let said = match self.input(model, conversation) {
			Ok(input) => self.answer(network, client, input, model).await,
			Err(error) => Err(error),
		};
		let content = said.and_then(|answer| text(&answer));
		match content {
			Ok(content) if !content.is_empty() => conversation.push(Message {
				role: Role::Assistant,
				content,
			}),
			// A question without an answer is forgotten.
			Ok(_) => drop(conversation.pop()),
			Err(error) => {
				conversation.pop();
				return Err(error);
			}
		}
		Ok(())
	}

	async fn answer(
		&self,
		network: &Network,
		client: &Client,
		input: Input,
		model: &Model,
	) -> Result<String> {
		let options = AskOptions {
			checks: self.checks,
			..AskOptions::default()
		};
		let began = Instant::now();
		let millis = |since: Instant| since.elapsed().as_millis() as u64;
		let before = spent(client)?;
		let mut events = client.ask(model.id, input, options);
		let (mut answer, mut first, mut whole) = (String::new(), None, None);
		while let Some(event) = events.next().await {
			match event.map_err(|e| e.to_string())? {
				Event::Waiting { ahead } => {
					// A crowd that waits asks its nodes nothing.
					network.0.rest().await;
					self.event(json!({ "event": "waiting", "ahead": ahead }));
					if !self.format.json {
						self.note(&format!(
							"everybody is busy: waiting for a place, {ahead} before this; nothing is paid for that"
						));
					}
				}
				Event::Started { executor, number } => {
					answer.clear();
					self.event(
						json!({ "event": "started", "executor": address(&executor), "number": number }),
					);
				}
				Event::Text(piece) => {
					first.get_or_insert_with(|| millis(began));
					if self.format.json {
						self.event(json!({ "event": "text", "text": piece }));
					} else {
						print!("{piece}");
						let _ = std::io::stdout().flush();
					}
					answer.push_str(&piece);
				}
				Event::Failed {
					executor,
					number,
					why,
				} => {
					self.event(json!({ "event": "failed", "executor": address(&executor), "number": number, "why": why.to_string() }));
					self.note(&format!("{}: {why}; another is asked", address(&executor)));
				}
				Event::Receipt(receipt) => {
					whole = Some(Instant::now());
					if !self.format.json {
						println!();
					}
					self.event(json!({
						"event": "receipt",
						"input_units": receipt.body.input_units,
						"output_units": receipt.body.output_units,
						"amount": receipt.body.amount.to_string(),
						"milliseconds": millis(began),
					}));
				}
				Event::Checking { checker } => {
					self.event(json!({ "event": "checking", "checker": address(&checker) }));
				}
				Event::Verdict { checker, finding } => {
					self.event(
						json!({ "event": "verdict", "checker": address(&checker), "finding": finding.word() }),
					);
				}
				Event::Skipped { checker, why } => {
					self.event(
						json!({ "event": "skipped", "checker": address(&checker), "why": why.to_string() }),
					);
				}
				Event::Done { number, status } => {
					let cost = spent(client)?.saturating_sub(before);
					let checked = whole.map(millis);
					if self.format.json {
						println!(
							"{}",
							json!({
								"event": "done",
								"number": number,
								"status": word(status),
								"right": match status { Status::Checked { right, .. } => right, _ => 0 },
								"wanted": self.checks,
								"answer": answer,
								"cost": cost.to_string(),
								"first_token_milliseconds": first,
								"checked_after_milliseconds": checked,
							})
						);
					} else {
						self.note(&format!(
							"[{status} · {} · first token after {} ms, {} ms after the last · receipt {number}]",
							csl(cost),
							first.unwrap_or_default(),
							checked.unwrap_or_default(),
						));
					}
					if status == Status::Refuted {
						return Err(REFUTED.into());
					}
				}
			}
		}
		Ok(answer)
	}

	/// Prints an event for programs.
	fn event(&self, value: serde_json::Value) {
		if self.format.json {
			println!("{value}");
		}
	}
}

/// What the channel has signed away so far.
fn spent(client: &Client) -> Result<u128> {
	use consilience_primitives::session::Service;
	let of = |service| client.wallet().spent(service).map_err(|e| e.to_string());
	Ok(of(Service::Answer)?.saturating_add(of(Service::Check)?))
}

fn word(status: Status) -> &'static str {
	match status {
		Status::Streaming => "streaming",
		Status::Answered => "answered",
		Status::Checked { .. } => "checked",
		Status::Refuted => "refuted",
	}
}
