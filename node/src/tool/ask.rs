//! `consilience infer`.

use std::time::{Duration, Instant};

use consilience_primitives::{
	model::Task,
	request::{Assurance, StoredInput},
	tensor::MAX_DATA,
	view::Quote,
	ModelId,
};
use consilience_rpc::JsonQuote;
use consilience_runtime::{Balance, Runtime, RuntimeEvent, MILLISECS_PER_BLOCK};
use polkadot_sdk::sc_cli;
use serde_json::json;
use tokio::time::timeout;

use super::{
	block_on,
	chain::{self, Chain},
	csl, failure,
	input::InputArguments,
	parse_csl, watch, Format, NodeAddress, Result, Signer,
};

/// Longest wait for the names of a model's scores.
const NAMES: Duration = Duration::from_secs(3);

/// Ask a model on chain, and wait for the checked answer.
#[derive(Debug, clap::Args)]
pub(crate) struct InferCommand {
	/// The model's id or name.
	#[arg(long)]
	model: String,

	#[command(flatten)]
	input: InputArguments,

	/// Validators that check the answer [default: the model's minimum].
	#[arg(long)]
	verifiers: Option<u8>,

	/// Have the answer checked with this probability in thousandths only, decided after it is in; cheaper, and final after
	/// the time for appeals where it is not checked.
	#[arg(long, conflicts_with = "verifiers", value_parser = clap::value_parser!(u16).range(..=1_000))]
	sampled: Option<u16>,

	/// Most CSL that the answer may cost, tip included; what is not used is returned [default: the price of the longest
	/// answer, and the tip].
	#[arg(long, value_parser = parse_csl)]
	fee_limit: Option<u128>,

	/// CSL paid on top of the price.
	#[arg(long, value_parser = parse_csl, default_value = "0")]
	tip: u128,

	/// Print the request's number and do not wait for the answer.
	#[arg(long)]
	no_wait: bool,

	/// Print what it would cost at most, the tip not counted, and how long it is expected to take, and do not ask.
	#[arg(long, conflicts_with_all = ["fee_limit", "tip", "no_wait"])]
	quote: bool,

	#[command(flatten)]
	signer: Signer,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

/// The call that asks, and brings the data that state does not hold.
pub(super) fn call(
	model: ModelId,
	(input, data): (StoredInput, Option<Vec<u8>>),
	assurance: Assurance,
	fee_limit: Balance,
	tip: Balance,
) -> Result<pallet_inference::Call<Runtime>> {
	Ok(match input {
		StoredInput::Inline(input) => pallet_inference::Call::request {
			model,
			input,
			assurance,
			fee_limit,
			tip,
		},
		StoredInput::Indexed(indexed) => pallet_inference::Call::request_with_data {
			model,
			tensors: indexed.tensors,
			assurance,
			fee_limit,
			tip,
			data: data
				.and_then(|data| data.try_into().ok())
				.ok_or_else(too_large)?,
		},
	})
}

fn too_large() -> String {
	format!("the tensors have more than {MAX_DATA} bytes together, which is what a transaction may bring")
}

/// A quote for people.
fn in_words(quote: &Quote<Balance>) -> String {
	let wait = &quote.wait;
	let blocks = wait.blocks();
	let seconds = u64::from(blocks).saturating_mul(MILLISECS_PER_BLOCK) / 1_000;
	let surcharge = if quote.surcharge == 0 {
		String::new()
	} else {
		format!(
			", {} of it burned because {} % of what those who serve the model can do is taken",
			csl(quote.surcharge),
			quote.taken / 10
		)
	};
	format!(
		"costs at most {}{surcharge}; expected in {blocks} blocks (about {seconds} s): {} before it, {} for the answer, {} for draws, {} for the \
		 check",
		csl(quote.fee),
		wait.queue,
		wait.work,
		wait.draws,
		wait.rounds
	)
}

impl InferCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		block_on(self.ask())
	}

	async fn ask(&self) -> Result<()> {
		let pair = chain::pair(&self.signer.suri)?;
		let chain = Chain::connect(&self.node.url).await?;
		let model = chain.find_model(&self.model).await?;
		let manifest = match model.spec.task {
			Task::Tensor if self.input.is_media(&model.spec)? => {
				Some(chain.manifest(model.id).await?)
			}
			// Without one the answer's scores have no names, which is not worth a long wait.
			Task::Tensor => timeout(NAMES, chain.manifest(model.id))
				.await
				.ok()
				.and_then(Result::ok),
			_ => None,
		};
		let task = manifest.map(|manifest| manifest.task);
		let (input, data) = self.input.input(&model.spec, task.as_ref())?.stored();
		let assurance = match self.sampled {
			Some(p) => Assurance::Sampled(p),
			None => Assurance::Committee(self.verifiers.unwrap_or(model.spec.policy.min_verifiers)),
		};
		let quote = chain
			.quote(model.id, &input, assurance)
			.await?
			.map_err(|e| failure::quote(e, &model))?;
		if self.quote {
			let value = serde_json::to_value(JsonQuote::from(quote)).map_err(|e| e.to_string())?;
			self.format.print(&value, || in_words(&quote));
			return Ok(());
		}
		let worst = quote.fee.saturating_add(self.tip);
		let fee_limit = self.fee_limit.unwrap_or(worst);
		if fee_limit < worst {
			return Err(format!(
				"--fee-limit {} is below the price of the longest answer and the tip, {}",
				csl(fee_limit),
				csl(worst)
			));
		}
		let since = Instant::now();
		let call = call(model.id, (input, data), assurance, fee_limit, self.tip)?;
		let (block, events) = chain.submit(&pair, call.into()).await?;
		let request = events
			.iter()
			.find_map(|e| match e {
				RuntimeEvent::Inference(pallet_inference::Event::RequestSubmitted {
					request,
					..
				}) => Some(*request),
				_ => None,
			})
			.ok_or("the transaction is in a block, and made no request")?;
		if self.no_wait {
			let value = json!({
				"request": request,
				"block": block.number,
				"escrow": fee_limit.to_string(),
				"expected_blocks": quote.wait.blocks(),
			});
			self.format.print(&value, || {
				format!(
					"request {request} in block {}, {} held; expected to be final in {} blocks",
					block.number,
					csl(fee_limit),
					quote.wait.blocks()
				)
			});
			return Ok(());
		}
		if !self.format.json {
			println!("{}", in_words(&quote));
		}
		watch::until_settled(&chain, request, task.as_ref(), self.format, since).await
	}
}
