//! Stake, elections, rewards and offences. Everything else reaches stake through the session and `sp_staking` traits only; see
//! `docs/adr/0001-pallet-staking.md`.

use crate::{
	configs::{
		consensus::{MaxAuthorities, MaxNominators},
		governance::TreasuryAccount,
		inference::JuryFundAccount,
	},
	*,
};
use consilience_primitives::model::MAX_ANSWER_BLOCKS;
use core::ops::Range;
use frame_election_provider_support::{
	bounds::{ElectionBounds, ElectionBoundsBuilder},
	onchain, SequentialPhragmen,
};
use frame_support::weights::Weight;
use frame_support::{
	parameter_types,
	traits::{tokens::imbalance::ResolveTo, ConstBool, ConstU32, Nothing},
};
use frame_system::EnsureRoot;
use sp_runtime::{curve::PiecewiseLinear, Perbill};
use sp_staking::{currency_to_vote::U128CurrencyToVote, EraIndex, SessionIndex};

/// Sessions in an era: six, which is an hour.
pub const SESSIONS_PER_ERA: u32 = 6;
/// Eras for which stake stays bonded after it was withdrawn, and can still be slashed: a week.
pub const BONDING_DURATION: u32 = 7 * 24;
/// Eras from the end of a deed's era to its slash: six days. Staking applies only slashes that it hears of before that, so a deed has
/// to be found in this time too, and a day has to be left in which governance can undo the slash.
pub const SLASH_DEFER_DURATION: u32 = 6 * 24;
/// Eras for which it is known who stood behind a validator. A deed of an era of which that is forgotten costs nothing; the era that
/// is planned next counts among them.
pub const HISTORY_DEPTH: u32 = BONDING_DURATION + 1;

/// Blocks of an era.
const ERA: BlockNumber = SESSIONS_PER_ERA * EPOCH_DURATION_IN_SLOTS as BlockNumber;
/// Blocks that are allowed from the first deed in a request to its settlement, and again for a jury after that.
const JUDGED_WITHIN: BlockNumber = DAYS;

// Of the slowest model: the answer, a round that begins anew for each validator that a request may turn away, and a jury, which has
// twice the time. What is left is for draws, reveals, and juries that wait for one another.
const _: () = assert!(
	(pallet_inference::MAX_EXCLUDED + 4) * MAX_ANSWER_BLOCKS < JUDGED_WITHIN,
	"a request can take longer than is allowed for it"
);

// Whoever lies is found and slashed before its stake is free. A request is judged, stays open to proof for the retention time, and is
// judged again; the accusation can be contested, and is judged once more; then governance has a day. What staking hears of later is never applied.
const _: () = assert!(
	3 * JUDGED_WITHIN + configs::inference::RETENTION + configs::inference::CONTEST_BLOCKS + DAYS
		<= SLASH_DEFER_DURATION * ERA,
	"a deed can be found too late for staking to slash for it, or for governance to undo the slash"
);
const _: () = assert!(
	SLASH_DEFER_DURATION + 2 < BONDING_DURATION,
	"stake is free before it is slashed"
);
const _: () = assert!(
	HISTORY_DEPTH > BONDING_DURATION,
	"who stood behind a validator is forgotten while stake is bonded"
);

pallet_staking_reward_curve::build! {
	const REWARD_CURVE: PiecewiseLinear<'static> = curve!(
		min_inflation: 0_025_000,
		max_inflation: 0_100_000,
		ideal_stake: 0_500_000,
		falloff: 0_050_000,
		max_piece_count: 40,
		test_precision: 0_005_000,
	);
}

parameter_types! {
	pub const RewardCurve: &'static PiecewiseLinear<'static> = &REWARD_CURVE;
	/// The election runs in one block and must fit it.
	pub Bounds: ElectionBounds =
		ElectionBoundsBuilder::default().voters_count(2_000.into()).targets_count(500.into()).build();
}

/// Elects the validators within one block, without an election pallet.
pub struct OnChainSeqPhragmen;

impl onchain::Config for OnChainSeqPhragmen {
	type System = Runtime;
	type Solver = SequentialPhragmen<AccountId, Perbill>;
	type DataProvider = Staking;
	type MaxWinnersPerPage = MaxAuthorities;
	type MaxBackersPerWinner = MaxNominators;
	type Sort = ConstBool<true>;
	type Bounds = Bounds;
	type WeightInfo = frame_election_provider_support::weights::SubstrateWeight<Runtime>;
}

/// Sizes of the staking pallet's benchmarks.
pub struct StakingBenchmarkingConfig;

impl pallet_staking::BenchmarkingConfig for StakingBenchmarkingConfig {
	type MaxNominators = ConstU32<1_000>;
	type MaxValidators = ConstU32<300>;
}

impl pallet_staking::Config for Runtime {
	type RuntimeEvent = RuntimeEvent;
	type OldCurrency = Balances;
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type CurrencyBalance = Balance;
	type UnixTime = Timestamp;
	type CurrencyToVote = U128CurrencyToVote;
	type ElectionProvider = onchain::OnChainExecution<OnChainSeqPhragmen>;
	type GenesisElectionProvider = Self::ElectionProvider;
	type NominationsQuota = pallet_staking::FixedNominationsQuota<16>;
	type HistoryDepth = ConstU32<HISTORY_DEPTH>;
	type RewardRemainder = ResolveToTreasury;
	// Who lies pays those who find it out.
	type Slash = ResolveTo<JuryFundAccount, Balances>;
	type Reward = ();
	type SessionsPerEra = ConstU32<SESSIONS_PER_ERA>;
	type BondingDuration = ConstU32<BONDING_DURATION>;
	type SlashDeferDuration = ConstU32<SLASH_DEFER_DURATION>;
	type AdminOrigin = EnsureRoot<AccountId>;
	type SessionInterface = Self;
	type EraPayout = pallet_staking::ConvertCurve<RewardCurve>;
	type NextNewSession = Session;
	type MaxExposurePageSize = ConstU32<256>;
	type MaxValidatorSet = MaxAuthorities;
	type VoterList = pallet_staking::UseNominatorsAndValidatorsMap<Self>;
	type TargetList = pallet_staking::UseValidatorsMap<Self>;
	type MaxUnlockingChunks = ConstU32<32>;
	type MaxControllersInDeprecationBatch = ConstU32<100>;
	// Whoever was lied to is compensated out of slashes.
	type EventListeners = crate::Inference;
	type Filter = Nothing;
	type BenchmarkingConfig = StakingBenchmarkingConfig;
	type WeightInfo = pallet_staking::weights::SubstrateWeight<Runtime>;
}

/// Puts what is left of rewards into the treasury.
pub type ResolveToTreasury = ResolveTo<TreasuryAccount, Balances>;

impl pallet_offences::Config for Runtime {
	type RuntimeEvent = RuntimeEvent;
	type IdentificationTuple = pallet_session::historical::IdentificationTuple<Self>;
	type OnOffenceHandler = Staking;
}

/// What staking and sessions remember of the past.
pub struct PastStake;

impl PastStake {
	/// The era of a session, as staking finds it for an offence.
	pub(crate) fn era_of(session: SessionIndex) -> Option<EraIndex> {
		let active = pallet_staking::ActiveEra::<Runtime>::get()?.index;
		let begun = pallet_staking::ErasStartSessionIndex::<Runtime>::get(active)?;
		if session >= begun {
			return Some(active);
		}
		let eras = pallet_staking::BondedEras::<Runtime>::get();
		let of_session = eras.iter().rev().find(|(_, start)| *start <= session);
		of_session.map(|(era, _)| *era)
	}

	/// The eras of a span that a slash has ended, if this era is of one: the most that is asked for in any of them is all that
	/// staking takes.
	fn ended_span(validator: &AccountId, era: EraIndex) -> Option<Range<EraIndex>> {
		let spans = pallet_staking::SlashingSpans::<Runtime>::get(validator)?;
		let mut start = spans.last_start;
		for length in &spans.prior {
			let end = start;
			start = start.saturating_sub(*length);
			if (start..end).contains(&era) {
				return Some(start..end);
			}
		}
		None
	}
}

impl pallet_inference::StakeHistory<AccountId> for PastStake {
	fn validators(session: SessionIndex) -> u32 {
		Historical::historical_root(session).map_or_else(
			|| Session::validators().len() as u32,
			|(_, validators)| validators,
		)
	}

	fn charged(validator: &AccountId, session: SessionIndex) -> Perbill {
		let Some(era) = Self::era_of(session) else {
			return Perbill::zero();
		};
		// A span that goes on was never charged: the first slash ends it.
		let span = Self::ended_span(validator, era).unwrap_or(era..era + 1);
		let first = span
			.start
			.max(span.end.saturating_sub(BONDING_DURATION + 1));
		(first..span.end)
			.filter_map(|era| pallet_staking::ValidatorSlashInEra::<Runtime>::get(era, validator))
			.map(|(fraction, _)| fraction)
			.max()
			.unwrap_or_default()
	}

	fn bonding() -> SessionIndex {
		BONDING_DURATION * SESSIONS_PER_ERA
	}

	fn weight() -> Weight {
		// Counted by hand: the eras and the session's validators, the spans, and the eras of the longest of them.
		let reads = 5 + u64::from(BONDING_DURATION) + 1;
		<Runtime as frame_system::Config>::DbWeight::get().reads(reads)
			+ Weight::from_parts(200_000_000, 100_000)
	}
}
