//! # The last judge
//!
//! Disputes about answers of the integer class, which end with one number that the runtime computes again.
//!
//! ## Overview
//!
//! Whoever says that an answer is false *stands* for a trace of the same text in which the model says another token there
//! ([`Call::stand`]). Whoever says that it is right stands for one that says the same. Anybody *doubts* a trace ([`Call::doubt`]), and plays
//! against whoever speaks for it, by turns ([`Call::reply`], [`Call::choose`]), down to one step. When there is nothing left to play,
//! [`Call::close`] says what follows ([`consilience_judge::standing`]): the answer is overturned if a trace stands that says something
//! else, and none that says the same.
//!
//! ```text
//! stand ─▶ Standing ─doubt─▶ game: reply, choose, reply, … ─step is false─▶ Refuted: its line loses
//!             │                └late, or misspoke: the next in line        └step is right: the challenger loses
//!             └line empty too long─▶ Lapsed
//! ```
//!
//! ## Bonds
//!
//! Everybody who stands or doubts has a bond on hold, twice as much as whoever took that kind of place before. Of what is lost, half goes
//! to the one who showed it and half is burned: who plays against itself in order to take places pays for each. What is not lost is
//! released when its game is over, or the dispute closed.
//!
//! Whoever opens a dispute while many are open pays a multiple of that, up to 2^15 times for the last: sham disputes about right answers
//! must not keep the place of one about a false one.
//!
//! ## Its end
//!
//! Nobody has to do anything for a dispute to end. Whoever takes part says who is late; where nobody does, everything that is open when no
//! game can go on any more ([`consilience_judge::standing::Terms::longest`]) is cut off, one trace a block, and whoever was to move has
//! lost. Then it is closed, and all bonds are released, by the block itself. [`Config::Deadline`] bounds all of this.
//!
//! ## Low level
//!
//! What an answer is, the pallet does not know: [`Disputed`] says what a trace must be of, and is told when a dispute opens and closes. All
//! rules are those of `consilience-judge`, which is pure; here are storage, money and time. A dispute has at most sixteen traces a side,
//! each of them a line of sixteen and sixteen games; a game is at most [`consilience_judge::narrowing::STATE`] bytes.

#![cfg_attr(not(feature = "std"), no_std)]
// The pallet macro makes items that carry no documentation of their own.
#![allow(missing_docs)]

extern crate alloc;

pub use pallet::*;
pub use types::*;
pub use weights::WeightInfo;

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
pub mod types;
pub mod weights;

use alloc::vec::Vec;

use consilience_judge::{
	disputed::Disputed,
	narrowing::{Choice, Claim, Game, Outcome, Pace, Refused, Reply, Side, Stage},
	standing::{price, Dispute, End, Opening, State, Terms, Unfit, Verdict, STANDS},
	tree::Hash,
};
use polkadot_sdk::{
	frame_support::{
		self,
		pallet_prelude::*,
		traits::{
			fungible::{Inspect, MutateHold},
			tokens::{Fortitude, Precision, Restriction},
		},
	},
	frame_system::{self, pallet_prelude::*},
	sp_runtime::{
		traits::{Saturating, UniqueSaturatedInto, Zero},
		SaturatedConversion,
	},
};

/// Money, as the runtime counts it.
pub type BalanceOf<T> =
	<<T as Config>::Currency as Inspect<<T as frame_system::Config>::AccountId>>::Balance;
/// What is disputed.
pub type SubjectOf<T> = <<T as Config>::Disputed as Disputed<
	<T as frame_system::Config>::AccountId,
	BalanceOf<T>,
>>::Subject;

#[frame_support::pallet]
pub mod pallet {
	use super::*;

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	#[pallet::config]
	pub trait Config: polkadot_sdk::frame_system::Config<RuntimeEvent: From<Event<Self>>> {
		/// Bonds.
		type Currency: MutateHold<Self::AccountId, Reason = Self::RuntimeHoldReason>;

		/// The runtime's reasons to hold money.
		type RuntimeHoldReason: From<HoldReason>;

		/// Answers that can be disputed.
		type Disputed: Disputed<Self::AccountId, BalanceOf<Self>>;

		/// The first's bond.
		#[pallet::constant]
		type Bond: Get<BalanceOf<Self>>;

		/// Disputes at a time.
		#[pallet::constant]
		type MaxCases: Get<u32>;

		/// Clocks of games, in blocks.
		#[pallet::constant]
		type Pace: Get<Pace>;

		/// Windows of disputes, in blocks.
		#[pallet::constant]
		type Terms: Get<Terms>;

		/// Blocks after its first in which every dispute must be over, whatever anybody does: as long as the stake of those whom it may
		/// blame stays bonded.
		#[pallet::constant]
		type Deadline: Get<u32>;

		/// Weights of calls.
		type WeightInfo: WeightInfo;
	}

	/// Why money is held.
	#[pallet::composite_enum]
	pub enum HoldReason {
		/// For standing for a trace, or doubting one.
		Bond,
	}

	/// Disputes. Bounded by [`Config::MaxCases`] and by what one holds; anybody can open one: a cryptographic hasher.
	#[pallet::storage]
	#[pallet::unbounded]
	pub type Cases<T: Config> =
		CountedStorageMap<_, Blake2_128Concat, SubjectOf<T>, Case<T::AccountId>, OptionQuery>;

	/// Disputes that are open, by the block in which they are ended if they are not closed before: one a block.
	#[pallet::storage]
	pub type Ends<T: Config> = StorageMap<_, Twox64Concat, u32, SubjectOf<T>, OptionQuery>;

	/// The last block in which a dispute is ended.
	#[pallet::storage]
	pub type LastEnd<T: Config> = StorageValue<_, u32, ValueQuery>;

	/// Disputes that are ended, or closed and not cleared: blocks do a step for the first.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Ending<T: Config> = StorageValue<_, BoundedVec<SubjectOf<T>, T::MaxCases>, ValueQuery>;

	/// Bonds of those who stand for a trace, by its number. As many as stand in lines.
	#[pallet::storage]
	pub type Bonds<T: Config> = StorageNMap<
		_,
		(
			NMapKey<Blake2_128Concat, SubjectOf<T>>,
			NMapKey<Twox64Concat, u8>,
			NMapKey<Blake2_128Concat, T::AccountId>,
		),
		BalanceOf<T>,
		OptionQuery,
	>;

	/// Games, by the trace's number and who doubts it. At most [`consilience_judge::standing::GAMES`] a trace.
	#[pallet::storage]
	#[pallet::unbounded]
	pub type Games<T: Config> = StorageNMap<
		_,
		(
			NMapKey<Blake2_128Concat, SubjectOf<T>>,
			NMapKey<Twox64Concat, u8>,
			NMapKey<Blake2_128Concat, T::AccountId>,
		),
		Played<BalanceOf<T>>,
		OptionQuery,
	>;

	#[pallet::event]
	#[pallet::generate_deposit(pub(crate) fn deposit_event)]
	pub enum Event<T: Config> {
		/// Somebody stands for a trace, in which the place says what was answered, or something else.
		Stood {
			subject: SubjectOf<T>,
			stand: u8,
			who: T::AccountId,
			says_so: bool,
			bond: BalanceOf<T>,
		},
		/// Somebody doubts a trace.
		Doubted {
			subject: SubjectOf<T>,
			stand: u8,
			who: T::AccountId,
			bond: BalanceOf<T>,
		},
		/// Whoever spoke for a trace was late, or misspoke, and loses a bond.
		Silenced {
			subject: SubjectOf<T>,
			stand: u8,
			who: T::AccountId,
		},
		/// A step of a trace is false. All who stood for it lose their bonds.
		Refuted {
			subject: SubjectOf<T>,
			stand: u8,
			by: T::AccountId,
		},
		/// Whoever doubted a trace named a right step, or was late, and loses a bond.
		Held {
			subject: SubjectOf<T>,
			stand: u8,
			who: T::AccountId,
		},
		/// Nobody answers for a trace.
		Lapsed { subject: SubjectOf<T>, stand: u8 },
		/// There is nothing left to play.
		Closed {
			subject: SubjectOf<T>,
			verdict: Verdict,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// The answer cannot be disputed: it is not settled, no longer kept, or not of the integer class.
		NotDisputable,
		/// There are as many disputes as there may be: wait for one to close.
		TooManyCases,
		/// A dispute is opened by whoever says something else than the answer does.
		SaysTheSame,
		/// The opening does not lead to the trace's root and the model's program, or to that place.
		BadOpening,
		/// There is no such dispute, trace or game.
		NoSuch,
		/// The dispute is closed to this.
		Closed,
		/// There are as many of these as there may be.
		Full,
		/// Whoever stands for a trace does not doubt it.
		Own,
		/// The account does this already.
		Again,
		/// Only whoever is first in the trace's line speaks for it.
		NotTheSpeaker,
		/// The other side is to move, or the time is over.
		NotNow,
		/// Another kind of move is due, or hashes, rule, sums or proof do not fit: the move counts for nothing.
		BadMove,
		/// Nobody is late.
		NotLate,
		/// Games are open, or there is time left.
		NotOver,
	}

	#[pallet::hooks]
	impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
		fn on_initialize(_: BlockNumberFor<T>) -> Weight {
			let now = Self::now();
			// Not taken in every block, which would write in every block.
			if let Some(subject) = Ends::<T>::get(now) {
				Ends::<T>::remove(now);
				Self::end(&subject);
			}
			match Ending::<T>::get().first() {
				None => T::WeightInfo::hooks(),
				Some(subject) => {
					Self::step(subject, now);
					T::WeightInfo::hooks()
						.saturating_add(T::WeightInfo::step().max(T::WeightInfo::step_clear()))
						.saturating_add(T::Disputed::weight())
				}
			}
		}

		fn integrity_test() {
			let (pace, terms) = (T::Pace::get(), T::Terms::get());
			assert!(
				pace.margin >= 12 && terms.window >= pace.margin && terms.grace >= pace.margin,
				"a third of the authors can hold a transaction back for twelve blocks"
			);
			assert!(
				terms.most >= terms.window,
				"who learns of a dispute when it could first close has no time to stand"
			);
			assert!(!T::Bond::get().is_zero(), "places must cost something");
			// No more disputes end in a row than fit between the first block and the first close.
			assert!(
				T::MaxCases::get() > 0 && T::MaxCases::get() <= terms.window,
				"more disputes than have an end of their own"
			);
			assert!(
				Self::longest() <= T::Deadline::get(),
				"a dispute can last longer than anybody's stake answers for it"
			);
		}

		#[cfg(feature = "try-runtime")]
		fn try_state(
			_n: BlockNumberFor<T>,
		) -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
			Self::do_try_state()
		}
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		/// Stands for a trace: opens the dispute with it, adds it, or joins its line.
		///
		/// - **Origin**: signed; the bond is held from it. - `trace`: its root. - `opening`: shows what it says at the disputed place.
		/// - **Errors**: `NotDisputable`, `TooManyCases`, `SaysTheSame`, `BadOpening`, `Closed`, `NoSuch` of one that has fallen, `Full`,
		///   `Again`, the currency's. **Emits** `Stood`.
		#[pallet::call_index(0)]
		#[pallet::weight(T::WeightInfo::stand().saturating_add(T::Disputed::weight()))]
		pub fn stand(
			origin: OriginFor<T>,
			subject: SubjectOf<T>,
			trace: Hash,
			opening: Opening,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let (now, terms) = (Self::now(), T::Terms::get());
			let (mut case, times) = match Cases::<T>::get(&subject) {
				Some(case) => (case, 1),
				None => Self::begin(&subject, &terms, now)?,
			};
			ensure!(case.verdict.is_none(), Error::<T>::Closed);
			let claim = case.statement.claim(trace);
			let said = opening.says(&claim, case.statement.place);
			let says_so = said.map_err(|_| Error::<T>::BadOpening)? == case.statement.said;
			ensure!(
				!(says_so && case.dispute.stands.is_empty()),
				Error::<T>::SaysTheSame
			);
			let (n, price) = case
				.dispute
				.stand(who.clone(), trace, says_so, &terms, now)
				.map_err(Self::unfit)?;
			let stand = n as u8;
			let bond = Self::hold(&who, price.saturating_mul(times), &mut case)?;
			Bonds::<T>::insert((&subject, stand, &who), bond);
			if case.dispute.speaker(n) == Some(&who) {
				Self::take_over(&subject, stand, &claim, now);
			}
			Cases::<T>::insert(&subject, case);
			Self::deposit_event(Event::Stood {
				subject,
				stand,
				who,
				says_so,
				bond,
			});
			Ok(())
		}

		/// Doubts a trace. A game begins, and whoever speaks for the trace is to move.
		///
		/// - **Origin**: signed; the bond is held from it.
		/// - **Errors**: `NoSuch`, `Closed`, `Full`, `Own`, `Again` while a game of the account's is open. **Emits** `Doubted`.
		#[pallet::call_index(1)]
		#[pallet::weight(T::WeightInfo::doubt())]
		pub fn doubt(origin: OriginFor<T>, subject: SubjectOf<T>, stand: u8) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let now = Self::now();
			let mut case = Self::open(&subject)?;
			ensure!(
				!Games::<T>::contains_key((&subject, stand, &who)),
				Error::<T>::Again
			);
			let price = case.dispute.doubt(&who, stand.into(), now);
			let bond = Self::hold(&who, price.map_err(Self::unfit)?, &mut case)?;
			let trace = case.dispute.stands[usize::from(stand)].trace;
			let game = Game::new(&case.statement.claim(trace), &T::Pace::get(), now);
			Games::<T>::insert((&subject, stand, &who), Played { game, bond });
			Cases::<T>::insert(&subject, case);
			Self::deposit_event(Event::Doubted {
				subject,
				stand,
				who,
				bond,
			});
			Ok(())
		}

		/// Moves for a trace.
		///
		/// - **Origin**: signed, by whoever is first in its line.
		/// - **Errors**: `NoSuch`, `NotTheSpeaker`, `NotNow`, `BadMove`.
		#[pallet::call_index(2)]
		#[pallet::weight(T::WeightInfo::reply())]
		pub fn reply(
			origin: OriginFor<T>,
			subject: SubjectOf<T>,
			stand: u8,
			challenger: T::AccountId,
			reply: Reply,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let case = Self::open(&subject)?;
			ensure!(
				case.dispute.speaker(stand.into()) == Some(&who),
				Error::<T>::NotTheSpeaker
			);
			let claim = Self::claim(&case, stand)?;
			Games::<T>::try_mutate((&subject, stand, &challenger), |played| {
				let played = played.as_mut().ok_or(Error::<T>::NoSuch)?;
				let moved = played
					.game
					.reply(&claim, &T::Pace::get(), Self::now(), reply);
				moved.map_err(|refused| Self::refused(refused).into())
			})
		}

		/// Moves against a trace, in the account's own game.
		///
		/// - **Origin**: signed. - **Errors**: `NoSuch`, `NotNow`, `BadMove`. **Emits** `Refuted`, `Held` or `Silenced` if that decides
		///   something.
		#[pallet::call_index(3)]
		#[pallet::weight(T::WeightInfo::choose().max(T::WeightInfo::choose_wide()))]
		pub fn choose(
			origin: OriginFor<T>,
			subject: SubjectOf<T>,
			stand: u8,
			choice: Choice,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let (now, pace) = (Self::now(), T::Pace::get());
			let mut case = Self::open(&subject)?;
			let claim = Self::claim(&case, stand)?;
			let key = (&subject, stand, &who);
			let mut played = Games::<T>::get(key).ok_or(Error::<T>::NoSuch)?;
			let moved = played.game.choose(&claim, &pace, now, &choice);
			moved.map_err(Self::refused)?;
			match &played.game.stage {
				Stage::Over(Outcome::Refuted) => {
					Games::<T>::remove(key);
					Self::release(&who, played.bond, &mut case);
					let terms = T::Terms::get();
					let lost = case.dispute.ended(stand.into(), End::Refuted, &terms, now);
					for liar in lost.map_err(Self::unfit)? {
						Self::lose_stand(&subject, &mut case, stand, &liar, Some(&who));
					}
					Self::deposit_event(Event::Refuted {
						subject: subject.clone(),
						stand,
						by: who,
					});
				}
				Stage::Over(Outcome::Held) => {
					Self::held(&subject, &mut case, stand, &who, now)?;
				}
				Stage::Misspoken { .. } => {
					Games::<T>::insert(key, played);
					Self::silenced(&subject, &mut case, stand, &who, now)?;
				}
				_ => Games::<T>::insert(key, played),
			}
			Cases::<T>::insert(&subject, case);
			Ok(())
		}

		/// Says who is late in a game. Whoever it is loses a bond; if it spoke for the trace, the next in line goes on.
		///
		/// - **Origin**: signed, by anybody. - **Errors**: `NoSuch`, `NotLate`. **Emits** `Held` or `Silenced`.
		#[pallet::call_index(4)]
		#[pallet::weight(T::WeightInfo::late())]
		pub fn late(
			origin: OriginFor<T>,
			subject: SubjectOf<T>,
			stand: u8,
			challenger: T::AccountId,
		) -> DispatchResult {
			ensure_signed(origin)?;
			let now = Self::now();
			let mut case = Self::open(&subject)?;
			let played = Games::<T>::get((&subject, stand, &challenger));
			let played = played.ok_or(Error::<T>::NoSuch)?;
			match played.game.late(&T::Pace::get(), now) {
				None => return Err(Error::<T>::NotLate.into()),
				Some(Side::Challenger) => {
					Self::held(&subject, &mut case, stand, &challenger, now)?;
				}
				// Nobody speaks: that is not this game's matter.
				Some(Side::Defender) if case.dispute.speaker(stand.into()).is_none() => {
					return Err(Error::<T>::NotLate.into());
				}
				Some(Side::Defender) => {
					Self::silenced(&subject, &mut case, stand, &challenger, now)?;
				}
			}
			Cases::<T>::insert(&subject, case);
			Ok(())
		}

		/// Says that a trace's line has been empty too long.
		///
		/// - **Origin**: signed, by anybody. - **Errors**: `NoSuch`, `NotLate`. **Emits** `Lapsed`.
		#[pallet::call_index(5)]
		#[pallet::weight(T::WeightInfo::lapse())]
		pub fn lapse(origin: OriginFor<T>, subject: SubjectOf<T>, stand: u8) -> DispatchResult {
			ensure_signed(origin)?;
			let mut case = Self::open(&subject)?;
			let lapsed = case
				.dispute
				.lapse(stand.into(), &T::Terms::get(), Self::now());
			ensure!(lapsed, Error::<T>::NotLate);
			Cases::<T>::insert(&subject, case);
			Self::deposit_event(Event::Lapsed { subject, stand });
			Ok(())
		}

		/// Closes a dispute when there is nothing left to play.
		///
		/// - **Origin**: signed, by anybody. - **Errors**: `NoSuch`, `NotOver`. **Emits** `Closed`.
		#[pallet::call_index(6)]
		#[pallet::weight(T::WeightInfo::close().saturating_add(T::Disputed::weight()))]
		pub fn close(origin: OriginFor<T>, subject: SubjectOf<T>) -> DispatchResult {
			ensure_signed(origin)?;
			let case = Self::open(&subject)?;
			let verdict = case.dispute.verdict(Self::now());
			Self::conclude(&subject, case, verdict.ok_or(Error::<T>::NotOver)?);
			Ok(())
		}

		/// Releases all bonds about one trace: games about one that has fallen, and once the dispute is closed, those who stand for it. When
		/// there is nothing left of a closed dispute, it goes. Blocks do the same by themselves, one dispute after the other.
		///
		/// - **Origin**: signed, by anybody. - **Errors**: `NoSuch`, `NotOver`.
		#[pallet::call_index(7)]
		#[pallet::weight(T::WeightInfo::clear())]
		pub fn clear(origin: OriginFor<T>, subject: SubjectOf<T>, stand: u8) -> DispatchResult {
			ensure_signed(origin)?;
			let mut case = Cases::<T>::get(&subject).ok_or(Error::<T>::NoSuch)?;
			let closed = case.verdict.is_some();
			let of = case.dispute.stands.get(usize::from(stand));
			let of = of.ok_or(Error::<T>::NoSuch)?;
			ensure!(closed || of.state != State::Standing, Error::<T>::NotOver);
			Self::clear_stand(&subject, &mut case, stand);
			Self::keep(&subject, case);
			Ok(())
		}
	}
}

impl<T: Config> Pallet<T> {
	/// Blocks after its first in which every dispute is closed: when no game can go on, when as many others that end have been cut off, closed
	/// and cleared before.
	pub fn longest() -> u32 {
		let steps = 4 * STANDS as u32 + 2;
		let others = T::MaxCases::get().saturating_mul(steps.saturating_add(1));
		let games = T::Terms::get().longest(&T::Pace::get());
		games.saturating_add(others)
	}

	fn now() -> u32 {
		let now: u64 = frame_system::Pallet::<T>::block_number().unique_saturated_into();
		now.saturated_into()
	}

	/// A new dispute, and how many times a bond it costs to open it.
	fn begin(
		subject: &SubjectOf<T>,
		terms: &Terms,
		now: u32,
	) -> Result<(Case<T::AccountId>, u32), Error<T>> {
		let statement = T::Disputed::statement(subject);
		let statement = statement.ok_or(Error::<T>::NotDisputable)?;
		let (open, most) = (Cases::<T>::count(), T::MaxCases::get());
		ensure!(open < most, Error::<T>::TooManyCases);
		let last = LastEnd::<T>::get().saturating_add(1);
		let ends = now.saturating_add(terms.longest(&T::Pace::get())).max(last);
		LastEnd::<T>::put(ends);
		Ends::<T>::insert(ends, subject);
		T::Disputed::opened(subject);
		let case = Case {
			statement,
			dispute: Dispute::new(terms, now),
			verdict: None,
			ends,
			bonds: 0,
			cleared: 0,
		};
		// A sixteenth of all places at each price.
		let times = u64::from(open) * 16 / u64::from(most);
		Ok((case, price(times as u8)))
	}

	/// A dispute that is not closed.
	fn open(subject: &SubjectOf<T>) -> Result<Case<T::AccountId>, Error<T>> {
		let case = Cases::<T>::get(subject).ok_or(Error::<T>::NoSuch)?;
		match case.verdict {
			None => Ok(case),
			Some(_) => Err(Error::<T>::Closed),
		}
	}

	/// Keeps a dispute while it is open or there are bonds about it.
	fn keep(subject: &SubjectOf<T>, case: Case<T::AccountId>) {
		match case.verdict.is_some() && case.bonds == 0 {
			true => {
				Cases::<T>::remove(subject);
				Ending::<T>::mutate(|all| all.retain(|other| other != subject));
			}
			false => Cases::<T>::insert(subject, case),
		}
	}

	/// A dispute has nothing more to wait for: blocks do the rest.
	fn end(subject: &SubjectOf<T>) {
		Ending::<T>::mutate(|all| {
			if !all.contains(subject) {
				// There are no more than there are disputes.
				let _ = all.try_push(subject.clone());
			}
		});
	}

	/// Closes a dispute, and has its bonds released.
	fn conclude(subject: &SubjectOf<T>, mut case: Case<T::AccountId>, verdict: Verdict) {
		case.verdict = Some(verdict);
		Ends::<T>::remove(case.ends);
		Self::end(subject);
		let winner = Self::winner(subject, &case).filter(|_| verdict == Verdict::Overturned);
		Self::keep(subject, case);
		T::Disputed::closed(subject, verdict, winner);
		Self::deposit_event(Event::Closed {
			subject: subject.clone(),
			verdict,
		});
	}

	/// Who speaks for the first trace that stands and says something else, and what it has at stake.
	fn winner(
		subject: &SubjectOf<T>,
		case: &Case<T::AccountId>,
	) -> Option<(T::AccountId, BalanceOf<T>)> {
		let mut stands = case.dispute.stands.iter().enumerate();
		let (n, of) = stands.find(|(_, of)| of.state == State::Standing && !of.says_so)?;
		let who = of.line.first()?;
		let bond = Bonds::<T>::get((subject, n as u8, who)).unwrap_or_else(Zero::zero);
		Some((who.clone(), bond))
	}

	/// Does a step of what ends a dispute: cuts off what is open about one trace, closes it, or releases the bonds about one.
	fn step(subject: &SubjectOf<T>, now: u32) {
		let Some(mut case) = Cases::<T>::get(subject) else {
			return Ending::<T>::mutate(|all| all.retain(|other| other != subject));
		};
		if case.verdict.is_some() {
			let stand = case.cleared;
			case.cleared = stand.saturating_add(1);
			Self::clear_stand(subject, &mut case, stand);
			return Self::keep(subject, case);
		}
		let mut stands = 0..case.dispute.stands.len();
		if let Some(n) = stands.find(|n| !case.dispute.is_quiet(*n)) {
			Self::cut(subject, &mut case, n as u8);
			return Cases::<T>::insert(subject, case);
		}
		// Nothing is open, and its windows have long been closed.
		let verdict = case.dispute.verdict(now).unwrap_or(Verdict::Stays);
		Self::conclude(subject, case, verdict);
	}

	/// The time is over for what is open about a trace.
	fn cut(subject: &SubjectOf<T>, case: &mut Case<T::AccountId>, stand: u8) {
		let games: Vec<_> = Games::<T>::iter_prefix((subject, stand))
			.map(|(who, played)| (who, played.bond, played.game.turn()))
			.collect();
		let turns = games.iter().map(|(.., turn)| *turn);
		let speaker = case.dispute.speaker(stand.into()).cloned();
		let Ok(silent) = case.dispute.cut(stand.into(), turns) else {
			return;
		};
		for (who, bond, turn) in &games {
			if *turn == Some(Side::Challenger) {
				Games::<T>::remove((subject, stand, who));
				Self::lose(who, *bond, speaker.as_ref(), case);
				Self::deposit_event(Event::Held {
					subject: subject.clone(),
					stand,
					who: who.clone(),
				});
			}
		}
		if let Some(who) = silent {
			let mut other = games.iter();
			let other = other.find(|(.., turn)| *turn != Some(Side::Challenger));
			Self::lose_stand(subject, case, stand, &who, other.map(|(who, ..)| who));
			Self::deposit_event(Event::Silenced {
				subject: subject.clone(),
				stand,
				who,
			});
		}
		let of = case.dispute.stands.get(usize::from(stand));
		if of.is_some_and(|of| of.state == State::Lapsed) {
			Self::deposit_event(Event::Lapsed {
				subject: subject.clone(),
				stand,
			});
		}
	}

	/// Releases what is held of those who doubt a trace, and who stand for it.
	fn clear_stand(subject: &SubjectOf<T>, case: &mut Case<T::AccountId>, stand: u8) {
		for (who, played) in Games::<T>::drain_prefix((subject, stand)) {
			Self::release(&who, played.bond, case);
		}
		for (who, bond) in Bonds::<T>::drain_prefix((subject, stand)) {
			Self::release(&who, bond, case);
		}
		if let Some(of) = case.dispute.stands.get_mut(usize::from(stand)) {
			of.line.clear();
		}
	}

	/// What a trace that stands claims.
	fn claim(case: &Case<T::AccountId>, stand: u8) -> Result<Claim, Error<T>> {
		let stand = case.dispute.stands.get(usize::from(stand));
		let stand = stand.filter(|stand| stand.state == State::Standing);
		let stand = stand.ok_or(Error::<T>::NoSuch)?;
		Ok(case.statement.claim(stand.trace))
	}

	fn unfit(unfit: Unfit) -> Error<T> {
		match unfit {
			Unfit::Closed => Error::<T>::Closed,
			Unfit::NoSuch => Error::<T>::NoSuch,
			Unfit::Full => Error::<T>::Full,
			Unfit::Own => Error::<T>::Own,
			Unfit::Again => Error::<T>::Again,
		}
	}

	fn refused(refused: Refused) -> Error<T> {
		match refused {
			Refused::NotNow => Error::<T>::NotNow,
			_ => Error::<T>::BadMove,
		}
	}

	/// Holds so many times a bond.
	fn hold(
		who: &T::AccountId,
		price: u32,
		case: &mut Case<T::AccountId>,
	) -> Result<BalanceOf<T>, DispatchError> {
		let bond = T::Bond::get().saturating_mul(price.into());
		T::Currency::hold(&HoldReason::Bond.into(), who, bond)?;
		case.bonds.saturating_inc();
		Ok(bond)
	}

	fn release(who: &T::AccountId, bond: BalanceOf<T>, case: &mut Case<T::AccountId>) {
		case.bonds.saturating_dec();
		// What is not there any more was slashed by somebody else; nothing is owed for it.
		let _ = T::Currency::release(&HoldReason::Bond.into(), who, bond, Precision::BestEffort);
	}

	/// Half of a bond goes to whoever showed that it is lost, the rest is burned.
	fn lose(
		who: &T::AccountId,
		bond: BalanceOf<T>,
		to: Option<&T::AccountId>,
		case: &mut Case<T::AccountId>,
	) {
		case.bonds.saturating_dec();
		let reason = HoldReason::Bond.into();
		let half = bond / 2u32.into();
		let mut left = bond;
		if let Some(to) = to.filter(|to| *to != who) {
			let moved = T::Currency::transfer_on_hold(
				&reason,
				who,
				to,
				half,
				Precision::BestEffort,
				Restriction::Free,
				Fortitude::Force,
			);
			left = left.saturating_sub(moved.unwrap_or_else(|_| Zero::zero()));
		}
		let _ = T::Currency::burn_held(&reason, who, left, Precision::BestEffort, Fortitude::Force);
	}

	fn lose_stand(
		subject: &SubjectOf<T>,
		case: &mut Case<T::AccountId>,
		stand: u8,
		who: &T::AccountId,
		to: Option<&T::AccountId>,
	) {
		if let Some(bond) = Bonds::<T>::take((subject, stand, who)) {
			Self::lose(who, bond, to, case);
		}
	}

	/// A challenger has lost: its bond goes to whoever spoke.
	fn held(
		subject: &SubjectOf<T>,
		case: &mut Case<T::AccountId>,
		stand: u8,
		challenger: &T::AccountId,
		now: u32,
	) -> DispatchResult {
		let to = case.dispute.speaker(stand.into()).cloned();
		case.dispute
			.ended(stand.into(), End::Held, &T::Terms::get(), now)
			.map_err(Self::unfit)?;
		if let Some(played) = Games::<T>::take((subject, stand, challenger)) {
			Self::lose(challenger, played.bond, to.as_ref(), case);
		}
		Self::deposit_event(Event::Held {
			subject: subject.clone(),
			stand,
			who: challenger.clone(),
		});
		Ok(())
	}

	/// Whoever speaks for a trace loses its place, and the next goes on in all its games.
	fn silenced(
		subject: &SubjectOf<T>,
		case: &mut Case<T::AccountId>,
		stand: u8,
		challenger: &T::AccountId,
		now: u32,
	) -> DispatchResult {
		let claim = Self::claim(case, stand)?;
		let who = case.dispute.silence(stand.into(), now);
		let who = who.map_err(Self::unfit)?;
		Self::lose_stand(subject, case, stand, &who, Some(challenger));
		if case.dispute.speaker(stand.into()).is_some() {
			Self::take_over(subject, stand, &claim, now);
		}
		Self::deposit_event(Event::Silenced {
			subject: subject.clone(),
			stand,
			who,
		});
		Ok(())
	}

	/// Whoever speaks now has a whole clock in each game about a trace.
	fn take_over(subject: &SubjectOf<T>, stand: u8, claim: &Claim, now: u32) {
		let challengers: Vec<_> = Games::<T>::iter_key_prefix((subject, stand)).collect();
		for challenger in challengers {
			Games::<T>::mutate((subject, stand, &challenger), |played| {
				if let Some(played) = played {
					played.game.take_over(claim, &T::Pace::get(), now);
				}
			});
		}
	}

	/// Whether games, lines and bonds are what they should be.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub fn do_try_state() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use alloc::collections::BTreeMap;
		use consilience_judge::narrowing::STATE;
		use polkadot_sdk::frame_support::traits::fungible::InspectHold;

		ensure!(
			Cases::<T>::count() <= T::MaxCases::get(),
			"more disputes than there may be"
		);
		let mut held = BTreeMap::<T::AccountId, BalanceOf<T>>::new();
		let mut bonds = BTreeMap::<_, u16>::new();
		for ((subject, stand, who), bond) in Bonds::<T>::iter() {
			let case = Cases::<T>::get(&subject).ok_or("a bond without a dispute")?;
			let of = case.dispute.stands.get(usize::from(stand));
			ensure!(
				of.is_some_and(|of| of.line.contains(&who)),
				"a bond of somebody who stands in no line"
			);
			*bonds.entry(subject.encode()).or_default() += 1;
			held.entry(who).or_default().saturating_accrue(bond);
		}
		let mut open = BTreeMap::<_, u8>::new();
		for ((subject, stand, who), played) in Games::<T>::iter() {
			ensure!(
				Cases::<T>::contains_key(&subject),
				"a game without a dispute"
			);
			ensure!(played.encoded_size() <= STATE + 32, "a game is too long");
			ensure!(
				!matches!(played.game.stage, Stage::Over(_)),
				"a game is over and still there"
			);
			*open.entry((subject.encode(), stand)).or_default() += 1;
			*bonds.entry(subject.encode()).or_default() += 1;
			held.entry(who).or_default().saturating_accrue(played.bond);
		}
		let ending = Ending::<T>::get();
		ensure!(
			ending.iter().all(Cases::<T>::contains_key),
			"a dispute that is forgotten is to end"
		);
		let (mut ends, terms, now) = (0, T::Terms::get(), Self::now());
		for (subject, case) in Cases::<T>::iter() {
			ensure!(
				bonds.get(&subject.encode()).copied().unwrap_or(0) == case.bonds,
				"a dispute has another number of bonds than it says"
			);
			let times = ending.iter().filter(|other| **other == subject).count();
			let waits = Ends::<T>::get(case.ends).as_ref() == Some(&subject);
			ensure!(
				times == usize::from(!waits) && (case.verdict.is_none() || !waits),
				"a dispute has no end, or two"
			);
			ends += usize::from(waits);
			let last = case.dispute.opened.saturating_add(terms.most);
			ensure!(
				case.dispute.closes <= last.saturating_add(terms.window),
				"a dispute is open for new traces and doubts too long"
			);
			ensure!(
				now < case.ends || !waits,
				"a dispute has not ended when it should"
			);
			ensure!(
				case.verdict.is_some()
					|| now <= case.dispute.opened.saturating_add(Self::longest()),
				"a dispute lasts longer than any can"
			);
			for (n, stand) in case.dispute.stands.iter().enumerate() {
				let n = n as u8;
				let games = open.get(&(subject.encode(), n)).copied().unwrap_or(0);
				ensure!(
					stand.state != State::Standing || stand.open == games,
					"a trace has another number of games than it says"
				);
				for who in &stand.line {
					ensure!(
						Bonds::<T>::contains_key((&subject, n, who)),
						"somebody stands without a bond"
					);
				}
			}
		}
		ensure!(
			Ends::<T>::iter_keys().count() == ends,
			"an end of no dispute"
		);
		for (who, bonds) in held {
			ensure!(
				T::Currency::balance_on_hold(&HoldReason::Bond.into(), &who) == bonds,
				"what is held is not the bonds"
			);
		}
		Ok(())
	}
}
