//! The wallet: what it keeps through crashes, and whom it keeps out.

use std::{
	collections::BTreeMap,
	io::{BufRead, BufReader},
	path::Path,
	process::{Command, Stdio},
};

use codec::{DecodeAll, Encode};
use consilience_lane::message::{AccountId, Payment};
use consilience_primitives::session::{is_preimage, Anchor, Service, MAX_NUMBER};
use consilience_session::{
	wallet::{Due, NewAsk},
	Wallet, WalletError,
};
use polkadot_sdk::sp_core::H256;

use crate::double::{input, CHANNEL, GENESIS, MODEL};

const FOLDER: &str = "CONSILIENCE_TEST_WALLET";

fn payee() -> AccountId {
	AccountId::new([1; 32])
}

fn question(from: u128) -> NewAsk {
	NewAsk {
		payee: payee(),
		model: MODEL,
		input: input(4),
		anchor: Anchor {
			number: 1,
			hash: H256::zero(),
		},
		from,
		prompt: 10,
		expires: 5,
		limit: u128::MAX,
	}
}

fn due(number: u32, service: Service, amount: u128, limit: u128) -> Due {
	Due {
		payee: payee(),
		service,
		number,
		request: H256::zero(),
		transcript: H256::zero(),
		from: None,
		amount,
		expires: 5,
		limit,
	}
}

fn made(folder: &Path) -> Wallet {
	let wallet = Wallet::create(folder).unwrap();
	wallet.bind(GENESIS, CHANNEL).unwrap();
	wallet
}

/// Signs until it is killed, and says what it would have sent.
#[test]
#[ignore = "run by the test after it, which kills it"]
fn signing() {
	let wallet = Wallet::open(Path::new(&std::env::var(FOLDER).unwrap())).unwrap();
	loop {
		let from = wallet.signed(&payee(), Service::Answer).unwrap();
		let (asked, payment) = wallet.begin(question(from)).unwrap();
		println!("sent {}", hex::encode(payment.encode()));
		for i in 0..4 {
			let due = Due {
				transcript: H256::repeat_byte(i),
				..due(asked.number, Service::Answer, 3, u128::MAX)
			};
			let payment = wallet.pay(&due).unwrap();
			println!("sent {}", hex::encode(payment.encode()));
		}
	}
}

#[test]
fn whatever_was_sent_is_known_after_any_crash() {
	let folder = tempfile::tempdir().unwrap();
	drop(made(folder.path()));
	// By amount: a fork would be two vouchers of one amount.
	let mut sent: BTreeMap<u128, Payment> = BTreeMap::new();
	for round in 0..6 {
		let mut child = Command::new(std::env::current_exe().unwrap())
			.args(["--exact", "keeping::signing", "--ignored", "--nocapture"])
			.env(FOLDER, folder.path())
			.stdout(Stdio::piped())
			.spawn()
			.unwrap();
		let lines = BufReader::new(child.stdout.take().unwrap()).lines();
		let (mut seen, until) = (0, 5 + 4 * round);
		for line in lines.map_while(Result::ok) {
			if let Some(at) = line.find("sent ") {
				let bytes = hex::decode(&line[at + 5..]).unwrap();
				let payment = Payment::decode_all(&mut &bytes[..]).unwrap();
				let before = sent.insert(payment.body.amount, payment.clone());
				assert!(before.is_none(), "signed twice: {payment:?}");
				seen += 1;
				if seen == until {
					// At whatever instruction it is; what it still says was written down before.
					child.kill().unwrap();
				}
			}
		}
		child.wait().unwrap();
		assert!(seen >= until);
		let wallet = Wallet::open(folder.path()).unwrap();
		let (largest, last) = sent.last_key_value().unwrap();
		assert!(wallet.signed(&payee(), Service::Answer).unwrap() >= *largest);
		assert!(wallet.next_number().unwrap() > last.body.number);
	}
	let numbers: Vec<_> = sent.values().map(|p| p.body.number).collect();
	assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn preimages_are_links_of_one_chain_and_shown_only_of_numbers_that_were_used() {
	let folder = tempfile::tempdir().unwrap();
	let wallet = made(folder.path());
	assert!(matches!(wallet.preimage(1), Err(WalletError::NotUsed(1))));
	for number in 1..=300 {
		wallet.begin(question(0)).unwrap();
		let preimage = wallet.preimage(number).unwrap();
		if [1, 2, 255, 256, 257, 300].contains(&number) {
			assert!(is_preimage(&preimage, number, (0, &wallet.tip())));
		}
	}
	for other in [0, 301, MAX_NUMBER, u32::MAX] {
		assert!(matches!(
			wallet.preimage(other),
			Err(WalletError::NotUsed(_))
		));
	}
}

#[test]
fn nothing_is_signed_beyond_a_limit_or_for_nothing() {
	let folder = tempfile::tempdir().unwrap();
	let wallet = made(folder.path());
	let (asked, _) = wallet.begin(question(0)).unwrap();
	let pay = |service, amount, limit| wallet.pay(&due(asked.number, service, amount, limit));
	assert_eq!(pay(Service::Answer, 5, 15).unwrap().body.amount, 15);
	assert!(matches!(
		pay(Service::Answer, 1, 15),
		Err(WalletError::Funds { needed: 1, left: 0 })
	));
	assert!(matches!(
		pay(Service::Answer, 0, 99),
		Err(WalletError::Nothing)
	));
	assert!(matches!(
		pay(Service::Answer, u128::MAX, u128::MAX),
		Err(WalletError::Funds { .. })
	));
	// The pot is one for all checkers.
	assert_eq!(pay(Service::Check, 7, 10).unwrap().body.amount, 7);
	let other = Due {
		payee: AccountId::new([2; 32]),
		..due(asked.number, Service::Check, 4, 10)
	};
	assert!(matches!(
		wallet.pay(&other),
		Err(WalletError::Funds { needed: 4, left: 3 })
	));
	// What fails leaves no number used and nothing signed.
	let dear = NewAsk {
		limit: 9,
		..question(0)
	};
	assert!(matches!(wallet.begin(dear), Err(WalletError::Funds { .. })));
	assert_eq!(wallet.next_number().unwrap(), 2);
	assert_eq!(wallet.spent(Service::Check).unwrap(), 7);
	let unused = due(2, Service::Answer, 1, 99);
	assert!(matches!(wallet.pay(&unused), Err(WalletError::NotUsed(2))));
}

#[test]
fn an_old_copy_signs_nothing_for_whoever_has_more() {
	let folder = tempfile::tempdir().unwrap();
	drop(made(folder.path()));
	let copy = tempfile::tempdir().unwrap();
	std::fs::copy(
		folder.path().join("wallet.redb"),
		copy.path().join("wallet.redb"),
	)
	.unwrap();
	let wallet = Wallet::open(folder.path()).unwrap();
	let (_, payment) = wallet.begin(question(0)).unwrap();
	let held = |wallet: &Wallet| wallet.held(&payee(), Service::Answer, Some(&payment));
	assert_eq!(held(&wallet).unwrap(), Some(10));
	let old = Wallet::open(copy.path()).unwrap();
	assert!(matches!(held(&old), Err(WalletError::OldCopy(_))));
	assert!(matches!(
		old.begin(question(10)),
		Err(WalletError::OldCopy(_))
	));
	// What others show, or for another service, is no voucher.
	let other = AccountId::new([2; 32]);
	let none = [
		wallet.held(&other, Service::Answer, Some(&payment)),
		wallet.held(&payee(), Service::Check, Some(&payment)),
	];
	assert!(none.iter().all(|shown| matches!(shown, Ok(None))));
}

#[test]
fn a_wallet_is_one_programs_its_owners_and_one_channels() {
	let folder = tempfile::tempdir().unwrap();
	assert!(matches!(
		Wallet::open(folder.path()),
		Err(WalletError::Missing(_))
	));
	let wallet = Wallet::create(folder.path()).unwrap();
	assert!(matches!(
		wallet.begin(question(0)),
		Err(WalletError::Unbound)
	));
	wallet.bind(GENESIS, CHANNEL).unwrap();
	wallet.bind(GENESIS, CHANNEL).unwrap();
	assert!(matches!(
		wallet.bind(GENESIS, CHANNEL + 1),
		Err(WalletError::OtherChannel)
	));
	assert!(matches!(
		Wallet::create(folder.path()),
		Err(WalletError::Exists(_))
	));
	assert!(matches!(
		Wallet::open(folder.path()),
		Err(WalletError::InUse(_))
	));
	let (key, tip) = (wallet.key(), wallet.tip());
	let words = format!("{wallet:?}");
	assert!(!words.contains("pair") && !words.contains("links"));
	drop(wallet);
	let files: Vec<_> = std::fs::read_dir(folder.path())
		.unwrap()
		.map(|f| f.unwrap().file_name())
		.collect();
	assert_eq!(files, ["wallet.redb"]);
	let wallet = Wallet::open(folder.path()).unwrap();
	assert_eq!((wallet.key(), wallet.tip()), (key, tip));
	assert_eq!(wallet.bound().unwrap().channel, CHANNEL);
	drop(wallet);
	#[cfg(unix)]
	{
		use std::os::unix::fs::PermissionsExt;
		let file = folder.path().join("wallet.redb");
		let mode = std::fs::metadata(&file).unwrap().permissions().mode();
		assert_eq!(mode & 0o777, 0o600);
		std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
		assert!(matches!(
			Wallet::open(folder.path()),
			Err(WalletError::Readable(_))
		));
		std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
	}
	std::fs::write(folder.path().join("wallet.redb"), b"no wallet").unwrap();
	assert!(matches!(
		Wallet::open(folder.path()),
		Err(WalletError::Storage(..))
	));
}
