//! Liars of the session lane, in networks of seven: what is not asked on chain is found on chain, and costs what it costs there.

use std::{
	collections::{BTreeMap, BTreeSet},
	path::Path,
};

use codec::Decode;
use consilience_primitives::session::{ClaimId, OpeningDue, Service};
use consilience_runtime::{AccountId, Balance, BlockNumber, Runtime, RuntimeEvent, UNIT};
use consilience_tests::{
	cli, liars_binary, paid, priced, quick, tiny_model, Network, Node, Options, Wallet, SEVEN,
};
use futures::future::join_all;
use jsonrpsee::rpc_params;
use pallet_inference::features::offence::OffenceKind;
use pallet_sessions::{Error, Event, Forfeit};
use polkadot_sdk::{
	sp_core::Bytes,
	sp_runtime::{DispatchError, ModuleError},
};
use serde_json::Value;

/// Thousandths of a coin that an answer costs: one point is drawn in every coin that is claimed.
const PRICE: u64 = 1_200;
/// Questions after which each of two of five must have been the one who was drawn: all but once in 30 million times.
const QUESTIONS: usize = 90;
/// Blocks in which a claim is drawn, opened, measured and judged.
const BLOCKS: BlockNumber = 150;

/// Seven validators, of whom these lie in these ways, with a model that a few answers of are drawn, served by those up to `serving`.
async fn network(liars: &[(usize, &str)], serving: usize) -> (Network, String) {
	let options = |name: &str| {
		let mut options = Options::listening();
		let lie = liars.iter().find(|(index, _)| SEVEN[*index] == name);
		if let Some((_, lie)) = lie {
			options.program = liars_binary();
			options.arguments.extend(["--liar".into(), (*lie).into()]);
		}
		// Who has more places free is asked first.
		if lie.is_some_and(|(_, lie)| *lie == "reuse-voucher") {
			let places = ["--session-jobs".into(), "8".into()];
			options.arguments.extend(places);
		}
		options
	};
	let network = Network::of_seven_with(options).await;
	for (index, _) in liars {
		network.nodes[*index]
			.await_line("THIS VALIDATOR LIES")
			.await;
	}
	let folder = network.folder.path().join("models");
	let model = priced(quick(tiny_model(&folder, "tiny")), PRICE);
	let at: Vec<_> = (0..serving).collect();
	let model = network.bring_up(&model, &at).await;
	let id = model.parse().expect("an id is a hash");
	network.nodes[0].await_lanes(id, serving).await;
	(network, model)
}

/// Accounts of the validators.
async fn accounts(network: &Network) -> Vec<AccountId> {
	join_all(network.nodes.iter().map(Node::account)).await
}

/// Who is honest, whose answers are false, its accomplice, and a checker that knows neither and does not measure.
const HONEST: usize = 1;
const LIAR: usize = 3;
const ACCOMPLICE: usize = 4;
const LAZY: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_false_answer_that_checkers_vouch_for_costs_claim_and_stake() {
	let liars = [
		(LIAR, "collude"),
		(ACCOMPLICE, "collude"),
		(LAZY, "unmeasured-check"),
	];
	let (network, model) = network(&liars, 6).await;
	let node = &network.nodes[0];
	let accounts = accounts(&network).await;
	let [honest, liar, accomplice, lazy] =
		[HONEST, LIAR, ACCOMPLICE, LAZY].map(|index| accounts[index].clone());

	// Somebody honest is asked as well, by a client whose checkers are everybody else, the liars among them.
	let [to_honest, to_liar] = [[&honest], [&liar]];
	let (other, wallet) = tokio::join!(
		Wallet::open(&network, node, &model, "//Eve", 8, &to_honest),
		Wallet::open(&network, node, &model, "//Ferdie", 200, &to_liar),
	);
	let right = ask(&other, node, &model, "t7 t8 t9", 5).await;
	assert_eq!(right["status"], "checked", "{right}");
	assert_eq!(right["right"], 5, "{right}");

	// Where one checker is drawn, and is honest, the client learns that it was lied to. Where it is the accomplice, or whoever does not
	// measure where nobody was drawn before it, the client learns nothing.
	let mut refuted = 0;
	let mut vouched = BTreeMap::new();
	for n in 0..QUESTIONS {
		let question = format!("t{} t{} t{}", 2 + n % 40, 3 + n % 37, 5 + n % 31);
		let done = ask(&wallet, node, &model, &question, 1).await;
		match done["status"].as_str() {
			Some("refuted") => refuted += 1,
			Some("checked") => {
				let number = done["number"].as_u64().expect("a number");
				let receipt = wallet.receipt(number).await;
				let file = network.folder.path().join(format!("receipt-{number}.json"));
				std::fs::write(&file, receipt.to_string()).expect("the folder is writable");
				let report = verify(node, &file).await;
				let by = report["members"][0]["account"]
					.as_str()
					.expect("an account");
				vouched.insert(by.to_owned(), (file, report));
			}
			_ => panic!("{done}"),
		}
		if refuted > 0 && vouched.len() == 2 {
			break;
		}
	}
	assert!(refuted > 0, "nobody honest was drawn");
	let expected = BTreeSet::from([&accomplice, &lazy].map(ToString::to_string));
	assert_eq!(
		vouched.keys().cloned().collect::<BTreeSet<_>>(),
		expected,
		"each of them is drawn once"
	);

	// The receipts hold what was signed, and whoever runs the model again sees it.
	for (by, (_, report)) in &vouched {
		assert_eq!(report["verdict"], "wrong", "{by}: {report}");
		assert_eq!(report["standing"], "checked (1 of 1)", "{report}");
		assert_eq!(report["facts"], "chain", "{report}");
		assert!(report["members"][0]["false"].is_string(), "{report}");
		assert!(report["appeal"]["command"].is_string(), "{report}");
	}
	// It puts that before juries, and shows what the two have signed.
	let appeals = vouched.values().zip(["//Ferdie", "//Eve"]);
	let judged = appeals.map(|((file, _), suri)| appeal(node, file, suri));
	for judged in join_all(judged).await {
		assert_eq!(judged["status"], "overturned", "{judged}");
		assert_eq!(judged["executor"], liar.to_string(), "{judged}");
	}

	// The chain measures what points fall on. What stands is paid two hours later.
	let (mut forfeited, mut stands) = (false, false);
	let lied = [
		(liar.clone(), OffenceKind::FraudulentResult),
		(accomplice.clone(), OffenceKind::FraudulentEvidence),
		(lazy.clone(), OffenceKind::FraudulentEvidence),
	];
	let mut seen = Seen::default();
	while !(forfeited && stands && lied.iter().all(|deed| seen.blamed.contains(deed))) {
		let said = format!("forfeited {forfeited}, stands {stands}");
		for event in seen.next(node, &said).await {
			match event {
				Event::ClaimForfeited { payee, .. } => {
					assert_eq!(payee, liar);
					forfeited = true;
				}
				Event::AnswerStands { claim, .. } => {
					assert_eq!(seen.claims[&claim].1, honest);
					stands = true;
				}
				_ => (),
			}
		}
	}
	// The accomplice may have been drawn to measure what was opened as well, and have vouched for it there too.
	let liars = [&liar, &accomplice, &lazy];
	let honest = seen.blamed.iter().find(|(who, _)| !liars.contains(&who));
	assert_eq!(honest, None, "{:?}", seen.blamed);
}

/// Who claims what it has not served, opens nothing, counts more than it has sent, and uses a voucher again. All of them measure as
/// others do.
const UNSERVED: usize = 3;
const CLOSED: usize = 4;
const PADDED: usize = 5;
const AGAIN: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_claims_what_it_did_not_earn_gains_nothing_though_the_model_is_deprecated() {
	let liars = [
		(UNSERVED, "unserved-receipt"),
		(CLOSED, "withhold-opening"),
		(PADDED, "wrong-units"),
		(AGAIN, "reuse-voucher"),
	];
	let (network, model) = network(&liars, SEVEN.len()).await;
	let node = &network.nodes[0];
	let accounts = accounts(&network).await;
	let account = |index: usize| &accounts[index];
	let open = |suri, index: usize, more: &[usize], deposit| {
		let executors: Vec<_> = [&[index], more].concat().into_iter().map(account).collect();
		let (network, model) = (&network, &model);
		async move { Wallet::open(network, node, model, suri, deposit, &executors).await }
	};
	let (honest, unserved, closed, padded, again, spare) = tokio::join!(
		open("//Ferdie", HONEST, &[], 8),
		open("//Eve", UNSERVED, &[], 8),
		open("//Dave", CLOSED, &[], 8),
		open("//Charlie", PADDED, &[], 8),
		open("//Bob", AGAIN, &[HONEST], 16),
		open("//Alice", AGAIN, &[], 8),
	);

	let question = "t7 t8 t9";
	for wallet in [&honest, &closed, &again] {
		let done = ask(wallet, node, &model, question, 2).await;
		assert_eq!(done["status"], "checked", "{done}");
		assert_eq!(done["right"], 2, "{done}");
	}
	// Whoever gets nothing is told so, and has promised what the question's beginning costs.
	let said = fails(&unserved, node, &model, question).await;
	assert!(said.contains("it failed"), "{said}");
	let nothing = unserved.receipt(1).await;
	assert!(nothing["receipt"].is_null(), "{nothing}");
	let promised_for_nothing = paid(&nothing);
	assert!(promised_for_nothing >= prompt(), "{nothing}");
	// Whose receipt counts more than came is not paid for it, nor for the last slice.
	let said = fails(&padded, node, &model, question).await;
	assert!(
		said.contains("the receipt's output units is not that"),
		"{said}"
	);
	let short = padded.receipt(1).await;
	assert!(short["receipt"].is_null(), "{short}");
	let promised = paid(&again.receipt(1).await);

	// From here on nobody can be asked any more.
	let owner = ["--url", &node.url, "--suri", "//Alice"];
	let deprecate = ["model", "deprecate", &model].into_iter().chain(owner);
	cli(deprecate).await.expect("it is Alice's model");
	// What is not paid to its end is claimed when the channel closes.
	tokio::join!(unserved.close(node), padded.close(node));

	// A claim that is not opened is forfeited two hours later: `runtime/tests/lane.rs`.
	let forged = [
		("twice", Error::<Runtime>::ClaimedBefore),
		("from another channel", Error::BadVoucher),
		("by another payee", Error::BadVoucher),
		("as a check's", Error::BadVoucher),
	];
	let (mut lost, mut stands, mut drawn) = (None, BTreeSet::new(), BTreeSet::new());
	let mut opened = BTreeSet::new();
	let mut seen = Seen::default();
	let deed = (account(UNSERVED).clone(), OffenceKind::FraudulentResult);
	let whoever_opens = [HONEST, AGAIN].map(|index| account(index).clone());
	while !(lost.is_some()
		&& seen.blamed.contains(&deed)
		&& whoever_opens.iter().all(|who| stands.contains(who))
		&& [CLOSED, PADDED]
			.iter()
			.all(|index| drawn.contains(account(*index))))
	{
		let said = format!("lost {lost:?}, stands {stands:?}, drawn {drawn:?}");
		for event in seen.next(node, &said).await {
			match event {
				Event::ClaimForfeited {
					payee,
					why,
					returned,
					..
				} => {
					assert_eq!(&payee, account(UNSERVED));
					lost = Some((why, returned));
				}
				Event::AnswerStands { claim, .. } => {
					stands.insert(seen.claims[&claim].1.clone());
				}
				Event::PointsDrawn { claim, offsets, .. } if !offsets.is_empty() => {
					drawn.insert(seen.claims[&claim].1.clone());
				}
				Event::ReceiptOpened { claim, .. } => {
					opened.insert(seen.claims[&claim].1.clone());
				}
				Event::ClaimPaid { payee, .. } => panic!("{payee} is paid before its time"),
				_ => (),
			}
		}
	}
	// The client has back what it promised for nothing.
	assert_eq!(lost, Some((Forfeit::False, promised_for_nothing)));
	// Nobody is to blame for a lie but whoever made an answer up; those who opened nothing have two hours.
	assert_eq!(seen.blamed, [deed]);
	for index in [CLOSED, PADDED] {
		assert!(!opened.contains(account(index)), "{index}");
		let due = openings_due(node, account(index)).await;
		assert!(!due.is_empty(), "{index}");
	}
	network.nodes[CLOSED].await_line("stays closed").await;
	// The pool may be a block behind what the worker read, and say first that nothing is due: the worker tries again.
	let refused = format!(
		"a receipt is not opened: the report was refused: {}",
		code(Error::WrongUnits)
	);
	network.nodes[PADDED].await_line(&refused).await;
	// A voucher is worth what it says, once.
	for (what, error) in forged {
		let said = format!("A voucher is not used again {what}");
		let refused = network.nodes[AGAIN].await_line(&said).await;
		assert!(refused.contains(&code(error)), "{refused}");
	}
	assert!(network.nodes[AGAIN].lines("IS USED AGAIN").is_empty());
	let claimed: Vec<_> = seen
		.claims
		.values()
		.filter(|(_, who, service, _)| who == account(AGAIN) && *service == Service::Answer)
		.map(|(channel, _, _, amount)| (*channel, *amount))
		.collect();
	assert_eq!(
		claimed,
		[(again.channel, promised)],
		"spare {}",
		spare.channel
	);
}

/// What a question costs at least before its answer.
const fn prompt() -> Balance {
	PRICE as Balance * UNIT / 1_000
}

/// How the pool of a node names an error of the pallet.
fn code(error: Error<Runtime>) -> String {
	match error.into() {
		DispatchError::Module(ModuleError { error, .. }) => format!("Custom({})", error[0]),
		other => panic!("{other:?} is no module's"),
	}
}

/// What happened in final blocks.
#[derive(Default)]
struct Seen {
	block: BlockNumber,
	/// Channel, payee, service and amount of each claim.
	claims: BTreeMap<ClaimId, (u64, AccountId, Service, Balance)>,
	blamed: Vec<(AccountId, OffenceKind)>,
	/// The last block when it began to look.
	began: Option<BlockNumber>,
}

impl Seen {
	/// Reads the next block, and returns the session lane's events in it. Fails where it takes too long, with what is known.
	async fn next(&mut self, node: &Node, known: &str) -> Vec<Event<Runtime>> {
		self.block += 1;
		let head = node.client.await_finalized(self.block).await.number;
		let began = *self.began.get_or_insert(head);
		assert!(
			self.block < began + BLOCKS,
			"{known}, blamed {:?}",
			self.blamed
		);
		let mut events = Vec::new();
		for (_, event) in node.client.events(node.client.hash(self.block).await).await {
			match event {
				RuntimeEvent::Sessions(event) => {
					if let Event::Claimed {
						claim,
						channel,
						payee,
						service,
						amount,
					} = &event
					{
						let claimed = (*channel, payee.clone(), *service, *amount);
						self.claims.insert(*claim, claimed);
					}
					events.push(event);
				}
				RuntimeEvent::Inference(pallet_inference::Event::OffenceReported {
					offender,
					kind,
					..
				}) => self.blamed.push((offender, kind)),
				_ => (),
			}
		}
		events
	}
}

/// What a validator has to open in the best block.
async fn openings_due(node: &Node, of: &AccountId) -> Vec<OpeningDue<BlockNumber, Balance>> {
	let who = Bytes(codec::Encode::encode(of));
	let call = rpc_params!["SessionsApi_openings_due", who];
	let reply: Bytes = node.client.call("state_call", call).await;
	Decode::decode(&mut &reply[..]).expect("the runtime is known")
}

/// Asks, and returns what came of it, also where the command fails because the answer is refuted.
async fn ask(wallet: &Wallet, node: &Node, model: &str, question: &str, checks: u32) -> Value {
	match wallet.say(node, model, question, checks).await {
		Ok(done) => done,
		Err(output) => last_object(&output),
	}
}

/// Asks, and returns why nobody answers.
async fn fails(wallet: &Wallet, node: &Node, model: &str, question: &str) -> String {
	let said = wallet.say(node, model, question, 2).await;
	said.expect_err("nobody answers")
}

/// `consilience verify` of a receipt, with the models of this node.
async fn verify(node: &Node, file: &Path) -> Value {
	let file = file.display().to_string();
	let base = node.base.display().to_string();
	let said = cli(["verify", &file, "--url", &node.url, "--base-path", &base]);
	match said.await {
		Ok(report) => report,
		Err(output) => last_object(&output),
	}
}

/// `consilience appeal` of a receipt: what became of it.
async fn appeal(node: &Node, file: &Path, suri: &str) -> Value {
	let file = file.display().to_string();
	let appealed = cli(["appeal", &file, "--url", &node.url, "--suri", suri]);
	appealed.await.expect("a jury decides")
}

/// The last line that is an object.
fn last_object(output: &str) -> Value {
	let objects = output
		.lines()
		.rev()
		.filter_map(|l| serde_json::from_str(l).ok());
	objects
		.into_iter()
		.find(Value::is_object)
		.unwrap_or_else(|| panic!("no object in {output}"))
}
