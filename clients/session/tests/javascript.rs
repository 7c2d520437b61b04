//! What the lane's client in JavaScript has to write and read, as this crate writes it. `clients/javascript/test/lane.test.js` makes the
//! same values out of the same words and holds its bytes against these; what it has signed is verified here.
//!
//! `CONSILIENCE_FIXTURES=write` writes the file anew, where something of it was changed on purpose.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use codec::{Compact, DecodeAll, Encode};
use consilience_lane::message::{
	AccountId, CheckRequest, End, Frame, Offer, OfferedModel, Payment, Progress, Question, Refusal,
	ToClient, ToValidator, Waiter,
};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict as Measured},
	model::{Bounds, NumericClass, Price, VerificationPolicy},
	request::{FinishReason, Input, LogitsProcessing, Message, Output, Prompt, Role, Sampling},
	session::{
		candidates, sampling_seed, steps, Anchor, Ask, LaneKey, Receipt, Release, Service,
		Signable, Signed, Transcript, Verdict, Voucher, MAX_NUMBER,
	},
};
use consilience_session::{
	record::{Certified, Check, Facts, Outcome, Record},
	Fault,
};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use serde_json::{json, Value};

const ANSWER: &str = "It is Paris: 巴黎.";

fn data(name: &str) -> PathBuf {
	PathBuf::from(env!("CARGO_MANIFEST_DIR"))
		.join("../javascript/test/data")
		.join(name)
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
	format!("0x{}", hex::encode(bytes))
}

fn account(byte: u8) -> AccountId {
	AccountId::new([byte; 32])
}

fn genesis() -> H256 {
	H256::repeat_byte(0x11)
}

/// A signature takes chance; these bytes are none, and are read and written all the same.
fn unsigned<T>(body: T) -> Signed<T> {
	Signed {
		body,
		signature: sr25519::Signature::from_raw([0x5a; 64]),
	}
}

fn price() -> Price<u128> {
	Price {
		per_request: 10_000_000_000,
		per_input_unit: 20_000_000,
		per_output_unit: 100_000_000,
	}
}

fn ask() -> Question {
	let message = |role, text: &str| Message {
		role,
		content: text.as_bytes().to_vec().try_into().unwrap(),
	};
	Ask {
		channel: 5,
		number: 7,
		payee: account(0x22),
		model: H256::repeat_byte(0x33),
		input: Input::TextGeneration {
			prompt: Prompt::Chat(
				vec![
					message(Role::System, "Be brief."),
					message(Role::User, "0x is a prefix. Capital of France?"),
				]
				.try_into()
				.unwrap(),
			),
			sampling: Sampling {
				max_tokens: 48,
				temperature: 700,
				top_p: 950,
				stop: vec![b"\n".to_vec().try_into().unwrap()].try_into().unwrap(),
				processing: Some(LogitsProcessing {
					top_k: 40,
					presence_penalty: -500,
					logit_bias: vec![(17, -100_000)].try_into().unwrap(),
					..LogitsProcessing::default()
				}),
			},
		},
		anchor: Anchor {
			number: 1_000,
			hash: H256::repeat_byte(0x44),
		},
		salt: H256::repeat_byte(0x55),
	}
}

fn tokens() -> Vec<Compact<u32>> {
	[1, 300, 70_000, 2].map(Compact).to_vec()
}

fn output() -> Output {
	Output::Text {
		tokens: tokens().try_into().unwrap(),
		text: ANSWER.as_bytes().to_vec().try_into().unwrap(),
		finish: FinishReason::EndOfText,
	}
}

fn voucher() -> Voucher<AccountId, u128> {
	let request = ask().hash(&genesis());
	Voucher {
		channel: 5,
		payee: account(0x22),
		service: Service::Answer,
		number: 7,
		request,
		transcript: Transcript::begin(&request).hash,
		amount: 12_345_678_901_234_567_890,
		expires: 9,
	}
}

fn receipt() -> Receipt<AccountId, u32, u128> {
	let request = ask().hash(&genesis());
	let (inputs, outputs) = (ask().input.units(), 4);
	Receipt {
		channel: 5,
		payee: account(0x22),
		number: 7,
		session: 3,
		request,
		transcript: Transcript::of(
			&request,
			&tokens(),
			ANSWER.as_bytes(),
			FinishReason::EndOfText,
		),
		input_units: inputs,
		output_units: outputs,
		amount: price().of(inputs, outputs).unwrap(),
		anchor: ask().anchor,
	}
}

fn verdict(checker: AccountId) -> Verdict<AccountId> {
	Verdict {
		receipt: receipt().hash(&genesis()),
		checker,
		session: 3,
		evidence: Evidence {
			fingerprint: Fingerprint::Digest([0x66; 16]),
			verdict: Measured {
				margin_max: 0,
				margin_mean: 0,
				deviations: 0,
			},
			prior: None,
		},
	}
}

fn progress() -> Progress {
	let request = ask().hash(&genesis());
	let mut transcript = Transcript::begin(&request);
	tokens().iter().for_each(|token| transcript.push(token.0));
	Progress {
		channel: 5,
		number: 7,
		request,
		transcript: transcript.hash,
		tokens: transcript.tokens,
	}
}

fn waiter() -> Waiter {
	Waiter {
		channel: 5,
		payee: account(0x22),
		model: H256::repeat_byte(0x33),
	}
}

fn release() -> Release<AccountId, u128> {
	Release {
		channel: 5,
		payee: account(0x22),
		session: 3,
		releases: 1,
		amount: 6,
	}
}

fn to_validators() -> Vec<ToValidator> {
	vec![
		ToValidator::Hello {
			version: 1,
			genesis: genesis(),
			channel: 5,
		},
		ToValidator::Ask {
			ask: ask(),
			voucher: unsigned(voucher()),
		},
		ToValidator::Pay(unsigned(voucher())),
		ToValidator::Cancel { number: 7 },
		ToValidator::Check(Box::new(CheckRequest {
			receipt: unsigned(receipt()),
			ask: ask(),
			output: output(),
			preimage: H256::repeat_byte(0x77),
		})),
		ToValidator::Release,
		ToValidator::Wait(unsigned(waiter())),
	]
}

fn to_clients() -> Vec<ToClient> {
	vec![
		ToClient::Offer(Offer {
			payee: account(0x22),
			models: vec![OfferedModel {
				model: H256::repeat_byte(0x33),
				price: price(),
				free: 4,
			}],
			held_answer: Some(unsigned(voucher())),
			held_check: None,
		}),
		ToClient::Frame(Frame {
			tokens: tokens(),
			text: ANSWER.as_bytes().to_vec(),
			progress: unsigned(progress()),
		}),
		ToClient::End(Box::new(End {
			text: b".".to_vec(),
			finish: FinishReason::Length,
			receipt: unsigned(receipt()),
		})),
		ToClient::Verdict(Box::new(unsigned(verdict(account(0x88))))),
		ToClient::Refused {
			number: Some(7),
			why: Refusal::Busy,
			words: "come back later".into(),
		},
		ToClient::Released(Box::new(unsigned(release()))),
		ToClient::Waiting { ahead: 12 },
	]
}

fn faults() -> Vec<Fault> {
	let refused = |why| Fault::Refused(why, String::new());
	let mut faults = vec![
		Fault::NoLane,
		Fault::Address("it is not UTF-8".into()),
		Fault::Connection("it was closed".into()),
		Fault::Silent(250),
		Fault::Silent(60_000),
		Fault::Silent(1_500),
		Fault::Malformed("text".into()),
		Fault::Held,
		Fault::OtherValidator,
		Fault::NotOffered,
		Fault::Refused(Refusal::Busy, "others\u{7}\u{9b} came ".repeat(40)),
		Fault::FrameSignature,
		Fault::Transcript,
		Fault::Text,
		Fault::TooMuch,
		Fault::Unpaid,
		Fault::Short,
		Fault::ReceiptSignature,
		Fault::ReceiptSession,
		Fault::Receipt("input units".into()),
		Fault::VerdictSignature,
		Fault::Verdict,
		Fault::Funds,
		Fault::NoPlace(300_000),
	];
	faults.extend(
		[
			Refusal::Malformed,
			Refusal::Incompatible,
			Refusal::Channel,
			Refusal::Voucher,
			Refusal::Number,
			Refusal::Anchor,
			Refusal::Model,
			Refusal::Input,
			Refusal::Unanswerable,
			Refusal::Receipt,
			Refusal::Preimage,
			Refusal::Failed,
			Refusal::Unpaid,
		]
		.map(refused),
	);
	faults
}

fn record() -> Record {
	let secret = H256::repeat_byte(0x99);
	let bounds = Bounds {
		mean: 1,
		max: 2,
		margin_max: 3,
		margin_mean: 4,
	};
	let key = LaneKey::from_raw([0xaa; 32]);
	let skipped = |byte, why| Check {
		checker: account(byte),
		outcome: Outcome::Skipped(why),
	};
	Record {
		ask: ask(),
		tokens: tokens(),
		text: ANSWER.as_bytes().to_vec(),
		finish: Some(FinishReason::EndOfText),
		paid: receipt().amount,
		receipt: Some(unsigned(receipt())),
		fault: Some(Fault::Short),
		preimage: Some(steps(&secret, MAX_NUMBER - 7)),
		wanted: 2,
		checks: vec![
			skipped(1, Fault::Silent(60_000)),
			skipped(
				2,
				Fault::Refused(Refusal::Busy, "others came before".into()),
			),
			Check {
				checker: account(0x88),
				outcome: Outcome::Verdict(Box::new(unsigned(verdict(account(0x88))))),
			},
		],
		facts: Facts {
			genesis: genesis(),
			seed: H256::repeat_byte(0xbb),
			tip: steps(&secret, MAX_NUMBER),
			price: price(),
			check: price(),
			policy: VerificationPolicy {
				class: NumericClass::Exact,
				positions: 8,
				entries: 4,
				fraction_bits: 12,
				accept: bounds,
				fraud: bounds,
				min_verifiers: 2,
				min_sampling: 1_000,
			},
			serving: vec![account(1), account(2)],
			keys: vec![Certified {
				validator: account(0x22),
				session: 3,
				key,
			}],
		},
	}
}

fn signable<T: Signable>(name: &str, body: &T) -> Value {
	json!({
		"type": name,
		"body": hex(body.encode()),
		"payload": hex(body.payload(&genesis())),
		"hash": hex(body.hash(&genesis())),
	})
}

fn fixtures() -> Value {
	let hexes = |all: Vec<Vec<u8>>| all.into_iter().map(hex).collect::<Vec<_>>();
	let (seed, preimage) = (H256::repeat_byte(0xbb), H256::repeat_byte(0x77));
	let serving: Vec<_> = (1..=6).map(account).collect();
	let order = candidates(
		&seed,
		&preimage,
		serving.iter().filter(|who| **who != account(3)).cloned(),
	);
	let secret = H256::repeat_byte(0x99);
	let links = [0, 1, 256, MAX_NUMBER].map(|n| (n, hex(steps(&secret, n))));
	json!({
		"toValidator": hexes(to_validators().iter().map(Encode::encode).collect()),
		"toClient": hexes(to_clients().iter().map(Encode::encode).collect()),
		"signed": [
			signable("ask", &ask()),
			signable("voucher", &voucher()),
			signable("receipt", &receipt()),
			signable("verdict", &verdict(account(0x88))),
			signable("progress", &progress()),
			signable("waiter", &waiter()),
			signable("release", &release()),
		],
		"units": ask().input.units(),
		"links": links,
		"candidates": order.iter().map(hex).collect::<Vec<_>>(),
		"seed": hex(sampling_seed(&seed, 7)),
		"faults": faults().iter().map(|fault| json!([hex(fault.encode()), fault.to_string()])).collect::<Vec<_>>(),
		"file": record().to_json(),
	})
}

#[test]
fn what_javascript_is_held_against_is_what_this_crate_writes() {
	let path = data("lane.json");
	let now = format!("{}\n", serde_json::to_string_pretty(&fixtures()).unwrap());
	if std::env::var("CONSILIENCE_FIXTURES").as_deref() == Ok("write") {
		fs::write(&path, &now).unwrap();
	}
	let kept: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
	assert_eq!(kept, fixtures());
}

/// A voucher and a place in line that `clients/javascript` has signed (`test/lane.test.js` says how).
#[test]
fn what_javascript_has_signed_is_signed() {
	let file = fs::read_to_string(data("signed.json")).unwrap();
	let file: Value = serde_json::from_str(&file).unwrap();
	let bytes =
		|name: &str| hex::decode(file[name].as_str().unwrap().trim_start_matches("0x")).unwrap();
	let key = LaneKey::from_raw(bytes("key").try_into().unwrap());
	let payment = Payment::decode_all(&mut &bytes("voucher")[..]).unwrap();
	assert_eq!(payment.body, voucher());
	assert!(payment.verify(&genesis(), &key));
	assert!(!payment.verify(&H256::zero(), &key));
	let waits = Signed::<Waiter>::decode_all(&mut &bytes("waiter")[..]).unwrap();
	assert_eq!(waits.body, waiter());
	assert!(waits.verify(&genesis(), &key));
	// The same seed has the same key here.
	let seed: [u8; 32] = bytes("seed").try_into().unwrap();
	assert_eq!(sr25519::Pair::from_seed(&seed).public(), key);
}
