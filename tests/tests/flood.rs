//! Much is asked at once of a network of four: what is taken is answered, and what cannot be is refused when it is asked.

use std::{
	collections::BTreeMap,
	ops::RangeInclusive,
	path::Path,
	time::{Duration, Instant},
};

use consilience_primitives::request::{Input, Prompt, Sampling};
use consilience_runtime::MILLISECS_PER_BLOCK;
use consilience_tests::{binary, model, Network, RequestEvent, Story};
use tokio::process::Command;

/// Who asks.
const REQUESTERS: [&str; 5] = ["//Ferdie", "//Alice", "//Bob", "//Charlie", "//Dave"];

/// What came of a flood.
struct Flood {
	/// Blocks in which it began and ended.
	span: RangeInclusive<u32>,
	taken: usize,
	refused: usize,
	/// Requests by the name of the event that ended them.
	ends: BTreeMap<&'static str, usize>,
}

async fn flood(network: &Network, model: &str, of: &[(&str, Vec<Input>)]) -> Flood {
	let client = &network.nodes[0].client;
	let id = model.parse().expect("an id is a hash");
	let (mut story, refused) = Story::ask_at_once(client, id, of, 2).await;
	let taken = story.requests.len();
	story.to_the_end(client).await;
	let mut ends = BTreeMap::new();
	let (mut first, mut last) = (u32::MAX, 0);
	for (block, event) in &story.events {
		let end = match event {
			RequestEvent::RequestFinal { .. } => "final",
			RequestEvent::RequestExpired { .. } => "expired",
			RequestEvent::RequestRejected { .. } => "rejected",
			RequestEvent::RequestUnanswerable { .. } => "unanswerable",
			RequestEvent::OffenceReported { .. } => panic!("somebody honest is blamed: {event:?}"),
			_ => {
				first = first.min(*block);
				continue;
			}
		};
		*ends.entry(end).or_default() += 1;
		last = *block;
	}
	Flood {
		span: first..=last,
		taken,
		refused,
		ends,
	}
}

impl Flood {
	/// Blocks from the first to the last.
	fn blocks(&self) -> u32 {
		self.span.end().saturating_sub(*self.span.start()) + 1
	}

	fn finals(&self) -> f64 {
		self.ends.get("final").copied().unwrap_or_default() as f64
	}

	/// Answers a second, from the first request to the last answer.
	fn answers_a_second(&self) -> f64 {
		self.finals() / (f64::from(self.blocks()) * MILLISECS_PER_BLOCK as f64 / 1_000.0)
	}

	/// Everything that was taken is Final, and most was.
	fn is_answered(&self, asked: usize) {
		let only = BTreeMap::from([("final", self.taken)]);
		assert_eq!(self.ends, only, "{} were refused", self.refused);
		assert_eq!(self.taken + self.refused, asked);
		assert!(
			self.taken * 2 >= asked,
			"{} of {asked} were refused",
			self.refused
		);
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn many_embeddings_at_once_are_final_or_refused() {
	embeddings(150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: in one run of four on two cores members were late, and blamed (docs/figures.md)"]
async fn five_hundred_embeddings_at_once_are_final_or_refused() {
	let (mut network, flood) = embeddings(500).await;
	// The machine is for one node that executes these blocks again, in WebAssembly and on ParityDB, and for nothing else.
	for index in (1..network.nodes.len()).rev() {
		network.kill(index).await;
	}
	let base = network.nodes[1].base.clone();
	let folder = network.folder;
	drop(network.nodes);
	// Compiling the runtime is most of what an import takes: the shortest of several.
	let (mut before, mut whole) = (Duration::MAX, Duration::MAX);
	for _ in 0..3 {
		before = before.min(execution_time(&base, folder.path(), *flood.span.start() - 1).await);
		whole = whole.min(execution_time(&base, folder.path(), *flood.span.end()).await);
	}
	let took = whole.saturating_sub(before).as_secs_f64();
	println!(
		"figure settled_a_second_executed = {:.0} [at least 1,000] the flood's {} blocks imported alone in {took:.2} s, by a node without \
		 optimisation: WebAssembly, signatures, ParityDB",
		flood.finals() / took,
		flood.blocks(),
	);
}

/// How long a fresh node takes to execute the blocks up to this one, which the node of the base path has.
async fn execution_time(base: &Path, folder: &Path, last: u32) -> Duration {
	let file = folder.join(format!("{last}.blocks"));
	let fresh = folder.join(format!("{last}.fresh"));
	let last = last.to_string();
	let arguments = |base: &Path| {
		let base = base.display().to_string();
		["--chain", "local", "--base-path", &base].map(str::to_owned)
	};
	let run = async |command: &str, base: &Path, more: &[&str]| {
		let began = Instant::now();
		let output = Command::new(binary())
			.arg(command)
			.args(arguments(base))
			.args(more)
			.arg(&file)
			.output()
			.await
			.expect("the binary runs");
		assert!(
			output.status.success(),
			"{command}: {}",
			String::from_utf8_lossy(&output.stderr)
		);
		began.elapsed()
	};
	run("export-blocks", base, &["--binary", "--to", &last]).await;
	let took = run("import-blocks", &fresh, &["--binary"]).await;
	std::fs::remove_dir_all(fresh).expect("the import has ended");
	took
}

/// Asks for so many embeddings at once.
async fn embeddings(count: usize) -> (Network, Flood) {
	let network = Network::start(&[]).await;
	let model = network
		.bring_up(&model("all-minilm-l6-v2-int8"), &[0, 1, 2, 3])
		.await;
	let text =
		|n: usize| format!("Sentence number {n} says that the sky over the sea is blue today.");
	let each = count / REQUESTERS.len();
	let of: Vec<_> = (0..REQUESTERS.len())
		.map(|who| {
			let inputs = (0..each).map(|n| {
				let text = text(who * each + n).into_bytes();
				Input::Embedding(text.try_into().expect("the text is short"))
			});
			(REQUESTERS[who], inputs.collect())
		})
		.collect();
	let flood = flood(&network, &model, &of).await;
	println!(
		"figure answers_a_second_of_{count}_embeddings = {:.2} [at least 10] network of four on one machine: {} taken, {} refused, ends {:?}, \
		 {} blocks",
		flood.answers_a_second(),
		flood.taken,
		flood.refused,
		flood.ends,
		flood.blocks()
	);
	flood.is_answered(count);
	(network, flood)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: a language model on all of the machine for minutes"]
async fn eight_chats_at_a_time_are_final() {
	let network = Network::start(&[]).await;
	let model = network
		.bring_up(&model("smollm2-135m-instruct-int8"), &[0, 1, 2, 3])
		.await;
	let question = |n: usize| Input::TextGeneration {
		prompt: Prompt::Text(
			format!("Name {} animals.", n + 2)
				.into_bytes()
				.try_into()
				.expect("the prompt is short"),
		),
		sampling: Sampling {
			max_tokens: 16,
			..Default::default()
		},
	};
	let (mut taken, mut blocks) = (0, 0);
	for round in 0..4 {
		let of = [0, 1].map(|who| {
			let inputs = (0..4).map(|n| question(round * 8 + who * 4 + n));
			(REQUESTERS[who], inputs.collect())
		});
		let flood = flood(&network, &model, &of).await;
		println!(
			"round {round}: {:?} in {} blocks, {} refused",
			flood.ends,
			flood.blocks(),
			flood.refused
		);
		flood.is_answered(8);
		taken += flood.taken;
		blocks += flood.blocks();
	}
	let seconds = f64::from(blocks) * MILLISECS_PER_BLOCK as f64 / 1_000.0;
	println!(
		"figure answers_a_second_chats = {:.2} [] network of four on one machine, 8 chats of 16 tokens at a time: {taken} in {blocks} \
		 blocks",
		taken as f64 / seconds
	);
}
