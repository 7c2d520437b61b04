//! A channel's wallet on disk: what signs, what was signed, and what there is to show for it.
//!
//! A number and a voucher are on the disk before anybody is told of them, and a number is given out once. The amounts of a payee's vouchers
//! rise by what is paid from one that it holds: receipts lie in a claim without a gap, so that what was signed and never arrived, or came
//! with a question that was refused, cannot be paid once more on top. Whoever shows an old voucher is paid on from there, and less for it.

use std::{
	fs::File,
	path::{Path, PathBuf},
	sync::OnceLock,
};

use codec::{Decode, DecodeAll, Encode};
use consilience_lane::message::{
	AccountId, Balance, BlockNumber, Payment, Question, SignedWaiter, Waiter,
};
use consilience_primitives::{
	request::Input,
	session::{
		steps, Anchor, Ask, ChannelId, LaneKey, Service, Signable, Signed, Transcript, Voucher,
		MAX_NUMBER,
	},
	ModelId,
};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use redb::{
	backends::FileBackend, Database, DatabaseError, ReadableDatabase, ReadableTable,
	TableDefinition,
};

use crate::{
	chain::Channel,
	error::WalletError,
	locks::{Numbers, Open},
	record::Record,
};

type Result<T> = std::result::Result<T, WalletError>;

/// Name of the wallet's file in its folder.
const FILE: &str = "wallet.redb";
/// Every so many links of the hash chain one is kept, so that a preimage costs fewer steps than this.
const STRIDE: u32 = 256;

const KEYS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("keys");
const VOUCHERS: TableDefinition<'static, &'static [u8], &'static [u8]> =
	TableDefinition::new("vouchers");
const CHECKS: TableDefinition<'static, &'static [u8], u32> = TableDefinition::new("checks");
const RECORDS: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("records");

/// Layout of the file.
const LAYOUT: &str = "layout";
const LAYOUT_VERSION: u8 = 2;
const SEED: &str = "seed";
const LINKS: &str = "links";
const CHANNEL: &str = "channel";
const NEXT: &str = "next";
const SHOWN: &str = "shown";

/// The channel that a wallet signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bound {
	/// Genesis hash of its chain.
	pub genesis: H256,
	/// Its number.
	pub channel: ChannelId,
}

/// What is to be asked, before it has a number.
#[derive(Clone, Debug)]
pub struct NewAsk {
	/// The executor.
	pub payee: AccountId,
	/// The model.
	pub model: ModelId,
	/// What is asked.
	pub input: Input,
	/// State that it refers to.
	pub anchor: Anchor<BlockNumber>,
	/// Amount that the executor's vouchers have come to so far: see [`Wallet::held`].
	pub from: Balance,
	/// Price of the question without an answer; not zero.
	pub prompt: Balance,
	/// Last session in which the voucher can be claimed.
	pub expires: u32,
	/// What vouchers for this executor's answers may come to.
	pub limit: Balance,
}

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Due {
	/// Whom.
	pub payee: AccountId,
	/// For what.
	pub service: Service,
	/// Number of the request.
	pub number: u32,
	/// Hash of the [`Ask`].
	pub request: H256,
	/// What is acknowledged: [`Voucher::transcript`].
	pub transcript: H256,
	/// Amount that the payee's vouchers have come to so far, where that is not what the wallet signed last: see [`Wallet::held`].
	pub from: Option<Balance>,
	/// How much more; not zero.
	pub amount: Balance,
	/// Last session in which the voucher can be claimed.
	pub expires: u32,
	/// What vouchers may come to: for an answer this payee's, for a check all checkers' together.
	pub limit: Balance,
}

/// What was signed away to a payee for a service.
#[derive(Clone, Debug, Encode, Decode)]
struct Account {
	/// The largest amount of a voucher: what the payee can claim at most.
	signed: Balance,
	/// The last voucher.
	last: Payment,
}

/// A channel's wallet. The file is its owner's alone (mode 0600), and one process has it at a time.
pub struct Wallet {
	database: Database,
	path: PathBuf,
	pair: sr25519::Pair,
	/// Every [`STRIDE`]th link of the hash chain, from its secret to its tip.
	links: Vec<H256>,
	bound: OnceLock<Bound>,
	numbers: Numbers,
}

/// Keeps keys out of logs.
impl std::fmt::Debug for Wallet {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Wallet")
			.field("path", &self.path)
			.field("bound", &self.bound.get())
			.finish_non_exhaustive()
	}
}

impl Wallet {
	/// Makes a wallet with a new key and hash chain in a folder. Takes 65,536 hashes.
	///
	/// # Errors
	/// If the folder holds one already or cannot be written.
	pub fn create(folder: &Path) -> Result<Self> {
		let path = folder.join(FILE);
		let wrong = |e: &dyn std::fmt::Display| WalletError::Storage(path.clone(), e.to_string());
		make_folder(folder).map_err(|e| wrong(&e))?;
		if path.exists() {
			return Err(WalletError::Exists(path));
		}
		let seed: [u8; 32] = rand::random();
		let mut links = vec![H256(rand::random())];
		while links.len() <= (MAX_NUMBER / STRIDE) as usize {
			links.extend(links.last().map(|last| steps(last, STRIDE)));
		}

		// Under its name only when it is whole.
		let temporary = NewFile::begin(folder).map_err(|e| wrong(&e))?;
		let file = temporary.file.try_clone().map_err(|e| wrong(&e))?;
		let backend = FileBackend::new(file).map_err(|e| wrong(&e))?;
		let database = Database::builder()
			.create_with_backend(backend)
			.map_err(|e| wrong(&e))?;
		write(&database, &path, |transaction| {
			let mut keys = transaction.open_table(KEYS)?;
			keys.insert(LAYOUT, &LAYOUT_VERSION.encode()[..])?;
			keys.insert(SEED, &seed[..])?;
			keys.insert(LINKS, &links.encode()[..])?;
			keys.insert(NEXT, &1u32.encode()[..])?;
			keys.insert(SHOWN, &0u32.encode()[..])?;
			drop(keys);
			transaction.open_table(VOUCHERS)?;
			transaction.open_table(CHECKS)?;
			transaction.open_table(RECORDS)?;
			Ok(())
		})?;
		temporary.finish(folder, &path).map_err(|e| {
			if e.kind() == std::io::ErrorKind::AlreadyExists {
				WalletError::Exists(path.clone())
			} else {
				wrong(&e)
			}
		})?;
		Ok(Self {
			database,
			path,
			pair: sr25519::Pair::from_seed(&seed),
			links,
			bound: OnceLock::new(),
			numbers: Numbers::new(0),
		})
	}

	/// Opens the wallet in a folder.
	///
	/// # Errors
	/// If there is none, others can read it, another program has it, or it is damaged.
	pub fn open(folder: &Path) -> Result<Self> {
		let path = folder.join(FILE);
		if !path.exists() {
			return Err(WalletError::Missing(folder.to_owned()));
		}
		private(&path)?;
		let database = Database::open(&path).map_err(|e| match e {
			DatabaseError::DatabaseAlreadyOpen => WalletError::InUse(path.clone()),
			e => WalletError::Storage(path.clone(), e.to_string()),
		})?;
		let damaged = |what| WalletError::Damaged(path.clone(), what);
		let transaction = database
			.begin_read()
			.map_err(|e| WalletError::Storage(path.clone(), e.to_string()))?;
		let keys = transaction
			.open_table(KEYS)
			.map_err(|_| damaged("it holds no keys"))?;
		let get = |name: &str| {
			keys.get(name)
				.map(|found| found.map(|v| v.value().to_vec()))
				.map_err(|e| WalletError::Storage(path.clone(), e.to_string()))
		};
		if get(LAYOUT)? != Some(LAYOUT_VERSION.encode()) {
			return Err(damaged("it is of another version of this program"));
		}
		let seed = get(SEED)?.ok_or(damaged("its key is missing"))?;
		let pair = sr25519::Pair::from_seed_slice(&seed).map_err(|_| damaged("its key is none"))?;
		let links = get(LINKS)?
			.and_then(|l| Vec::<H256>::decode_all(&mut &l[..]).ok())
			.filter(|l| l.len() == (MAX_NUMBER / STRIDE) as usize + 1)
			.ok_or(damaged("its hash chain is missing"))?;
		let bound = OnceLock::new();
		if let Some(channel) = get(CHANNEL)? {
			let channel = Bound::decode_all(&mut &channel[..])
				.map_err(|_| damaged("its channel is unreadable"))?;
			bound.get_or_init(|| channel);
		}
		let shown = get(SHOWN)?
			.and_then(|n| u32::decode_all(&mut &n[..]).ok())
			.ok_or(damaged("it does not say which preimages were shown"))?;
		drop(keys);
		transaction
			.close()
			.map_err(|e| WalletError::Storage(path.clone(), e.to_string()))?;
		let wallet = Self {
			database,
			path,
			pair,
			links,
			bound,
			numbers: Numbers::new(shown),
		};
		wallet.next_number()?;
		Ok(wallet)
	}

	/// Returns the public half of its signing key: what `sessions.open` takes.
	pub fn key(&self) -> LaneKey {
		self.pair.public()
	}

	/// Returns link 0 of its hash chain: what `sessions.open` takes.
	pub fn tip(&self) -> H256 {
		self.links.last().copied().unwrap_or_default()
	}

	/// Binds it to the channel that was opened with its key and tip. Binding it to the same again does nothing.
	///
	/// # Errors
	/// If it is bound to another, or cannot be written.
	pub fn bind(&self, genesis: H256, channel: ChannelId) -> Result<()> {
		let new = Bound { genesis, channel };
		self.write(|transaction| {
			let mut keys = transaction.open_table(KEYS)?;
			let old = keys.get(CHANNEL)?.map(|v| v.value().to_vec());
			if old.is_some_and(|old| old != new.encode()) {
				return Ok(Err(WalletError::OtherChannel));
			}
			keys.insert(CHANNEL, &new.encode()[..])?;
			Ok(Ok(()))
		})??;
		self.bound.get_or_init(|| new);
		Ok(())
	}

	/// Returns the channel that it is bound to.
	///
	/// # Errors
	/// If it is bound to none.
	pub fn bound(&self) -> Result<Bound> {
		self.bound.get().copied().ok_or(WalletError::Unbound)
	}

	/// Checks that a channel on chain is the one that was opened with this wallet, and that the wallet is no old copy.
	///
	/// # Errors
	/// If it is not.
	pub fn check(&self, channel: &Channel) -> Result<()> {
		if channel.key != self.key() || channel.chain != self.tip() {
			return Err(WalletError::OtherChannel);
		}
		for allocation in &channel.allocations {
			if allocation.allotment.claimed > self.signed(&allocation.payee, Service::Answer)? {
				return Err(WalletError::OldCopy(allocation.payee.clone()));
			}
		}
		Ok(())
	}

	/// Returns what a payee's next voucher counts on from: the amount of the last one that it holds. `None` if what it shows is no voucher
	/// of this channel for it.
	///
	/// # Errors
	/// If this wallet's key has signed what the wallet knows nothing of, or it cannot be read.
	pub fn held(
		&self,
		payee: &AccountId,
		service: Service,
		shown: Option<&Payment>,
	) -> Result<Option<Balance>> {
		let Some(shown) = shown else {
			return Ok(Some(0));
		};
		let (bound, voucher) = (self.bound()?, &shown.body);
		if voucher.channel != bound.channel
			|| voucher.payee != *payee
			|| voucher.service != service
			|| !shown.verify(&bound.genesis, &self.key())
		{
			return Ok(None);
		}
		if voucher.amount > self.signed(payee, service)? || voucher.number >= self.next_number()? {
			return Err(WalletError::OldCopy(payee.clone()));
		}
		Ok(Some(voucher.amount))
	}

	/// Takes the next number for a question and pays for it: writes both down, and returns what may then be sent.
	///
	/// # Errors
	/// If the numbers are used up, the channel has too little for this executor, or it cannot be written down. Nothing may be sent then.
	pub fn begin(&self, new: NewAsk) -> Result<(Question, Payment)> {
		let (question, payment, _) = self.begin_open(new)?;
		Ok((question, payment))
	}

	/// The same; no higher number's preimage is shown before what comes with them is dropped.
	pub(crate) fn begin_open(&self, new: NewAsk) -> Result<(Question, Payment, Open)> {
		let bound = self.bound()?;
		self.write(|transaction| {
			let mut keys = transaction.open_table(KEYS)?;
			let number = self.number(keys.get(NEXT)?.map(|v| v.value().to_vec()));
			let number = match number {
				Ok(number) if number <= MAX_NUMBER => number,
				Ok(_) => return Ok(Err(WalletError::UsedUp)),
				Err(e) => return Ok(Err(e)),
			};
			// Before there can be a higher one: transactions come one after another.
			let Some(open) = self.numbers.open(number) else {
				return Ok(Err(
					self.damaged("a number's preimage was shown before its use")
				));
			};
			let question = Ask {
				channel: bound.channel,
				number,
				payee: new.payee.clone(),
				model: new.model,
				input: new.input.clone(),
				anchor: new.anchor,
				salt: H256(rand::random()),
			};
			let request = question.hash(&bound.genesis);
			let due = Due {
				payee: new.payee.clone(),
				service: Service::Answer,
				number,
				request,
				transcript: Transcript::begin(&request).hash,
				from: Some(new.from),
				amount: new.prompt,
				expires: new.expires,
				limit: new.limit,
			};
			let payment = match self.sign(transaction, &bound, &due)? {
				Ok(payment) => payment,
				Err(e) => return Ok(Err(e)),
			};
			keys.insert(NEXT, &(number + 1).encode()[..])?;
			Ok(Ok((question, payment, open)))
		})?
	}

	/// Opens a number again whose answer broke; `None` where its preimage was shown, or follows from one that was: a receipt for it would
	/// be worth nothing.
	pub(crate) fn reopen(&self, number: u32) -> Option<Open> {
		self.numbers.open(number)
	}

	/// Waits until every lower number has its receipt or is over. From then on a receipt for any of them, or for this one, is refused:
	/// its preimage may be shown, once [`note_shown`](Self::note_shown) has written that down.
	pub(crate) async fn show(&self, number: u32) {
		self.numbers.show(number).await;
	}

	/// Writes down that a number's preimage may have been shown.
	pub(crate) fn note_shown(&self, number: u32) -> Result<()> {
		self.write(|transaction| {
			let mut keys = transaction.open_table(KEYS)?;
			let before = keys.get(SHOWN)?.map(|v| v.value().to_vec());
			let before = match self.number(before) {
				Ok(before) => before,
				Err(e) => return Ok(Err(e)),
			};
			keys.insert(SHOWN, &before.max(number).encode()[..])?;
			Ok(Ok(()))
		})?
	}

	/// Signs a voucher, writes it down, and returns what may then be sent.
	///
	/// # Errors
	/// If nothing is due, the number was not used, the channel has too little, or it cannot be written down. Nothing may be sent then.
	pub fn pay(&self, due: &Due) -> Result<Payment> {
		let bound = self.bound()?;
		self.used(due.number)?;
		self.write(|transaction| self.sign(transaction, &bound, due))?
	}

	/// Signs that the channel waits for a payee's place for a model. Nothing is promised by that.
	pub(crate) fn waiter(&self, payee: &AccountId, model: ModelId) -> Result<SignedWaiter> {
		let bound = self.bound()?;
		let body = Waiter {
			channel: bound.channel,
			payee: payee.clone(),
			model,
		};
		Ok(Signed {
			signature: self.pair.sign(&body.payload(&bound.genesis)),
			body,
		})
	}

	/// Signs within a transaction, which is undone where this fails.
	fn sign(
		&self,
		transaction: &redb::WriteTransaction,
		bound: &Bound,
		due: &Due,
	) -> std::result::Result<Result<Payment>, redb::Error> {
		if due.amount == 0 {
			return Ok(Err(WalletError::Nothing));
		}
		let mut vouchers = transaction.open_table(VOUCHERS)?;
		let mut own = None;
		let mut others: Balance = 0;
		for entry in vouchers.iter()? {
			let (_, value) = entry?;
			let account = match self.account(value.value()) {
				Ok(account) => account,
				Err(e) => return Ok(Err(e)),
			};
			let voucher = &account.last.body;
			if voucher.service != due.service {
				continue;
			}
			if voucher.payee == due.payee {
				own = Some(account);
			} else if due.service == Service::Check {
				others = others.saturating_add(account.signed);
			}
		}
		let signed = own.as_ref().map_or(0, |own| own.signed);
		let from = due
			.from
			.unwrap_or(own.map_or(0, |own| own.last.body.amount));
		if from > signed {
			return Ok(Err(WalletError::OldCopy(due.payee.clone())));
		}
		let left = due.limit.saturating_sub(others).saturating_sub(from);
		let (Some(amount), true) = (from.checked_add(due.amount), due.amount <= left) else {
			return Ok(Err(WalletError::Funds {
				needed: due.amount,
				left,
			}));
		};
		let body = Voucher {
			channel: bound.channel,
			payee: due.payee.clone(),
			service: due.service,
			number: due.number,
			request: due.request,
			transcript: due.transcript,
			amount,
			expires: due.expires,
		};
		let payment = Signed {
			signature: self.pair.sign(&body.payload(&bound.genesis)),
			body,
		};
		let key = (due.service, &due.payee).encode();
		let account = Account {
			signed: signed.max(amount),
			last: payment.clone(),
		};
		vouchers.insert(&key[..], &account.encode()[..])?;
		if due.service == Service::Check {
			let mut checks = transaction.open_table(CHECKS)?;
			checks.remove(&due.payee.encode()[..])?;
		}
		Ok(Ok(payment))
	}

	/// Returns the last voucher for a payee's service.
	///
	/// # Errors
	/// If it cannot be read.
	pub fn last(&self, payee: &AccountId, service: Service) -> Result<Option<Payment>> {
		Ok(self.of(payee, service)?.map(|account| account.last))
	}

	/// Returns what a payee can claim at most for a service: the largest amount that was signed.
	///
	/// # Errors
	/// If it cannot be read.
	pub fn signed(&self, payee: &AccountId, service: Service) -> Result<Balance> {
		Ok(self.of(payee, service)?.map_or(0, |account| account.signed))
	}

	fn of(&self, payee: &AccountId, service: Service) -> Result<Option<Account>> {
		let found = self.read(|transaction| {
			let vouchers = transaction.open_table(VOUCHERS)?;
			let key = (service, payee).encode();
			let found = vouchers.get(&key[..])?;
			Ok(found.map(|v| v.value().to_vec()))
		})?;
		found.map(|bytes| self.account(&bytes)).transpose()
	}

	/// Returns what all payees together can claim at most for a service.
	///
	/// # Errors
	/// If it cannot be read.
	pub fn spent(&self, service: Service) -> Result<Balance> {
		let all = self.read(|transaction| {
			let vouchers = transaction.open_table(VOUCHERS)?;
			let mut all = Vec::new();
			for entry in vouchers.iter()? {
				all.push(entry?.1.value().to_vec());
			}
			Ok(all)
		})?;
		all.iter().try_fold(0, |sum: Balance, bytes| {
			let account = self.account(bytes)?;
			Ok(if account.last.body.service == service {
				sum.saturating_add(account.signed)
			} else {
				sum
			})
		})
	}

	/// Notes which request's answer a checker is about to be given, and may therefore have to be paid for; `None` once it has refused.
	/// Its payment takes the note away.
	///
	/// # Errors
	/// If it cannot be written.
	pub fn note_check(&self, checker: &AccountId, number: Option<u32>) -> Result<()> {
		self.write(|transaction| {
			let mut checks = transaction.open_table(CHECKS)?;
			let key = checker.encode();
			match number {
				Some(number) => drop(checks.insert(&key[..], number)?),
				None => drop(checks.remove(&key[..])?),
			}
			Ok(())
		})
	}

	/// Returns which request's answer a checker was given that neither was paid for it nor has refused.
	///
	/// # Errors
	/// If it cannot be read.
	pub fn noted_check(&self, checker: &AccountId) -> Result<Option<u32>> {
		self.read(|transaction| {
			let checks = transaction.open_table(CHECKS)?;
			let found = checks.get(&checker.encode()[..])?;
			Ok(found.map(|number| number.value()))
		})
	}

	/// Returns the number that the next question gets.
	///
	/// # Errors
	/// If it cannot be read.
	pub fn next_number(&self) -> Result<u32> {
		let next = self.read(|transaction| {
			let keys = transaction.open_table(KEYS)?;
			let next = keys.get(NEXT)?;
			Ok(next.map(|v| v.value().to_vec()))
		})?;
		self.number(next)
	}

	/// Returns the preimage of a number that was used, from which those of all lower numbers follow. It belongs to checkers, once the
	/// receipts of all these are signed.
	///
	/// # Errors
	/// If the number was not used.
	pub fn preimage(&self, number: u32) -> Result<H256> {
		self.used(number)?;
		let from_secret = MAX_NUMBER - number;
		let link = self
			.links
			.get((from_secret / STRIDE) as usize)
			.ok_or(WalletError::NotUsed(number))?;
		Ok(steps(link, from_secret % STRIDE))
	}

	/// Writes down what there is to show for a request.
	///
	/// # Errors
	/// If it cannot be written.
	pub fn put(&self, record: &Record) -> Result<()> {
		self.write(|transaction| {
			let mut records = transaction.open_table(RECORDS)?;
			records.insert(record.ask.number, &record.encode()[..])?;
			Ok(())
		})
	}

	/// Returns what there is to show for a request.
	///
	/// # Errors
	/// If it cannot be read.
	pub fn record(&self, number: u32) -> Result<Option<Record>> {
		let found = self.read(|transaction| {
			let records = transaction.open_table(RECORDS)?;
			let found = records.get(number)?;
			Ok(found.map(|v| v.value().to_vec()))
		})?;
		found
			.map(|bytes| {
				Record::decode_all(&mut &bytes[..])
					.map_err(|_| self.damaged("a record is unreadable"))
			})
			.transpose()
	}

	/// Returns the numbers of all requests of which there is a record.
	///
	/// # Errors
	/// If they cannot be read.
	pub fn records(&self) -> Result<Vec<u32>> {
		self.read(|transaction| {
			let records = transaction.open_table(RECORDS)?;
			let mut numbers = Vec::new();
			for entry in records.iter()? {
				numbers.push(entry?.0.value());
			}
			Ok(numbers)
		})
	}

	fn used(&self, number: u32) -> Result<()> {
		if number == 0 || number >= self.next_number()? {
			return Err(WalletError::NotUsed(number));
		}
		Ok(())
	}

	fn number(&self, bytes: Option<Vec<u8>>) -> Result<u32> {
		bytes
			.and_then(|b| u32::decode_all(&mut &b[..]).ok())
			.ok_or_else(|| self.damaged("a number is missing"))
	}

	fn account(&self, bytes: &[u8]) -> Result<Account> {
		Account::decode_all(&mut &bytes[..]).map_err(|_| self.damaged("a voucher is unreadable"))
	}

	fn damaged(&self, what: &'static str) -> WalletError {
		WalletError::Damaged(self.path.clone(), what)
	}

	fn read<T>(
		&self,
		read: impl FnOnce(&redb::ReadTransaction) -> std::result::Result<T, redb::Error>,
	) -> Result<T> {
		let run = || read(&self.database.begin_read()?);
		run().map_err(|e| WalletError::Storage(self.path.clone(), e.to_string()))
	}

	fn write<T: Outcome>(
		&self,
		change: impl FnOnce(&redb::WriteTransaction) -> std::result::Result<T, redb::Error>,
	) -> Result<T> {
		write(&self.database, &self.path, change)
	}
}

/// Whether a change is to be kept.
trait Outcome {
	fn keep(&self) -> bool;
}

impl Outcome for () {
	fn keep(&self) -> bool {
		true
	}
}

impl<T> Outcome for Result<T> {
	fn keep(&self) -> bool {
		self.is_ok()
	}
}

/// Changes the database in one transaction, which is on the disk when this returns.
fn write<T: Outcome>(
	database: &Database,
	path: &Path,
	change: impl FnOnce(&redb::WriteTransaction) -> std::result::Result<T, redb::Error>,
) -> Result<T> {
	let run = || -> std::result::Result<T, redb::Error> {
		let transaction = database.begin_write()?;
		let outcome = change(&transaction)?;
		if outcome.keep() {
			transaction.commit()?;
		} else {
			transaction.abort()?;
		}
		Ok(outcome)
	};
	run().map_err(|e| WalletError::Storage(path.to_owned(), e.to_string()))
}

/// A file that has no name yet that anybody looks for; removed where it never gets one.
struct NewFile {
	file: File,
	path: PathBuf,
}

impl NewFile {
	fn begin(folder: &Path) -> std::io::Result<Self> {
		let path = folder.join(format!(".{FILE}.{:016x}", rand::random::<u64>()));
		let mut options = File::options();
		options.read(true).write(true).create_new(true);
		#[cfg(unix)]
		std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
		let file = options.open(&path)?;
		Ok(Self { file, path })
	}

	/// Names it, unless another has the name.
	fn finish(self, folder: &Path, name: &Path) -> std::io::Result<()> {
		self.file.sync_all()?;
		std::fs::hard_link(&self.path, name)?;
		// The name itself is on the disk only with its folder.
		File::open(folder)?.sync_all()
	}
}

impl Drop for NewFile {
	fn drop(&mut self) {
		// Best effort: what stays behind is never read.
		let _ = std::fs::remove_file(&self.path);
	}
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
	let mut builder = std::fs::DirBuilder::new();
	builder.recursive(true);
	#[cfg(unix)]
	std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
	builder.create(folder)
}

/// Whether nobody but its owner can read it.
#[cfg(unix)]
fn private(path: &Path) -> Result<()> {
	use std::os::unix::fs::PermissionsExt;
	let metadata = std::fs::metadata(path)
		.map_err(|e| WalletError::Storage(path.to_owned(), e.to_string()))?;
	if metadata.permissions().mode() & 0o077 != 0 {
		return Err(WalletError::Readable(path.to_owned()));
	}
	Ok(())
}

#[cfg(not(unix))]
fn private(_: &Path) -> Result<()> {
	Ok(())
}
