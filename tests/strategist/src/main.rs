//! `consilience-strategist`: searches for policies that earn more than honest work, and says what it found.

use anyhow::{ensure, Result};
use clap::{Parser, Subcommand};
use consilience_strategist::{
	capacity::{self, Network},
	load::{self, Load},
	policy::{Forbidden, Policy},
	report::Report,
	search::{search, Arena, Finding, Prizes, BELIEVED},
};

/// Plays the runtime as a party of validators that thinks, and searches for policies that earn more than honest work.
#[derive(Parser)]
struct Cli {
	#[command(subcommand)]
	command: Option<Command>,
	/// Share of the validators that are the party, in percent.
	#[arg(long, global = true, default_value_t = 33)]
	party: usize,
	/// Sizes of the networks that are played.
	#[arg(long, value_delimiter = ',', default_values_t = [7, 10, 20, 30])]
	validators: Vec<usize>,
	/// Requests to be played, all networks together.
	#[arg(long, default_value_t = 20_000)]
	episodes: u64,
	/// Seed: the same gives the same search.
	#[arg(long, global = true, default_value_t = 1)]
	seed: u64,
	/// Hunts in each network: after each that earned something its best trick is forbidden.
	#[arg(long, default_value_t = 8)]
	hunts: u64,
	/// Choices that are forbidden from the beginning, by name: what an earlier search has found.
	#[arg(long, default_value = "")]
	without: Policy,
	/// Prize for a false answer to a stranger that becomes final, in coins.
	#[arg(long, global = true, default_value_t = 1_000.0)]
	prize: f64,
	/// Prize for a stranger's request that is refused or not answered, in coins.
	#[arg(long, global = true, default_value_t = 1.0)]
	denial: f64,
	/// Prints JSON, for programs.
	#[arg(long, global = true)]
	json: bool,
	/// Prints the figures of `scripts/bench protocol` at the end.
	#[arg(long)]
	figures: bool,
}

#[derive(Subcommand)]
enum Command {
	/// Plays one policy, and says what it earns over honest work.
	Play {
		/// The policy by name, as a search prints it: `AnswerSampled=Wrong,ExecutorWatched=Silent`.
		#[arg(default_value = "")]
		policy: Policy,
		/// Validators.
		#[arg(long, default_value_t = 10)]
		validators: usize,
		/// Plays, under the seeds from `--seed` on.
		#[arg(long, default_value_t = BELIEVED)]
		plays: u64,
	},
	/// Has honest validators answer as much as is asked, and weighs the blocks.
	Load {
		/// Validators; more than may serve a model do not serve it.
		#[arg(long, default_value_t = 64)]
		validators: usize,
		/// Requests a block, each with two verifiers.
		#[arg(long, default_value_t = 20)]
		requests: u32,
		/// Blocks in which is asked.
		#[arg(long, default_value_t = 40)]
		blocks: u32,
	},
	/// Has honest validators of different speed serve many models, offers them more and more, and says what is answered, what is refused,
	/// how long it takes and who gets how much.
	Capacity {
		/// Validators.
		#[arg(long, default_value_t = 300)]
		validators: usize,
		/// Models, each served by 4 to 40 of them.
		#[arg(long, default_value_t = 50)]
		models: usize,
		/// Loads, in percent of what all machines can do.
		#[arg(long, value_delimiter = ',', default_values_t = [10, 25, 50, 75, 100, 200, 300])]
		loads: Vec<u32>,
		/// A load, in percent, of which one account offers ten times as much as all others together; 0 for none.
		#[arg(long, default_value_t = 300)]
		greedy: u32,
		/// Blocks in which is counted, for each of them.
		#[arg(long, default_value_t = 60)]
		blocks: u32,
	},
}

fn main() -> Result<()> {
	let cli = Cli::parse();
	let sizes = match &cli.command {
		Some(
			Command::Play { validators, .. }
			| Command::Load { validators, .. }
			| Command::Capacity { validators, .. },
		) => std::slice::from_ref(validators),
		None => &cli.validators,
	};
	ensure!(
		sizes.iter().all(|n| *n >= 4),
		"a network has at least four validators: give --validators 4 or more"
	);
	ensure!(
		cli.party < 100,
		"a party is less than all validators: give --party less than 100"
	);
	match cli.command {
		Some(Command::Play {
			policy,
			validators,
			plays,
		}) => one(&cli, &policy, validators, plays),
		Some(Command::Load {
			validators,
			requests,
			blocks,
		}) => weighed(
			&cli,
			Load {
				validators,
				requests,
				blocks,
			},
		),
		Some(Command::Capacity {
			validators,
			models,
			ref loads,
			greedy,
			blocks,
		}) => offered(
			&cli,
			Network {
				validators,
				models,
				loads: loads.clone(),
				greedy: Some(greedy).filter(|load| *load > 0),
				blocks,
			},
		),
		None => searched(&cli),
	}
}

impl Cli {
	fn prizes(&self) -> Prizes {
		Prizes {
			false_final: self.prize,
			denied: self.denial,
		}
	}
}

/// Plays one policy.
fn one(cli: &Cli, policy: &Policy, validators: usize, plays: u64) -> Result<()> {
	let mut arena = Arena::new(validators, cli.party, cli.prizes());
	let score = arena.score(policy, (0..plays).map(|i| cli.seed.wrapping_add(i)));
	if cli.json {
		println!("{}", serde_json::to_string_pretty(&score)?);
		return Ok(());
	}
	for words in policy.words() {
		println!("  {words}");
	}
	print!("{score}");
	Ok(())
}

/// Loads honest validators.
fn weighed(cli: &Cli, load: Load) -> Result<()> {
	let outcome = load::run(load, cli.seed);
	if cli.json {
		println!("{}", serde_json::to_string(&outcome)?);
	} else {
		print!("{}", outcome.text(&load));
	}
	Ok(())
}

/// Offers a network more and more.
fn offered(cli: &Cli, network: Network) -> Result<()> {
	let most = capacity::most_validators();
	ensure!(
		network.validators <= most,
		"a session of the runtime has at most {most} validators: give --validators {most} or less"
	);
	ensure!(
		network.models > 0 && network.blocks > 0 && network.loads.iter().all(|load| *load > 0),
		"nothing is asked: give --models, --blocks and --loads of 1 or more"
	);
	let places = capacity::most_served() * network.validators;
	ensure!(
		network.models * capacity::MOST_SERVERS <= places,
		"{} validators serve {places} models together, and {} models may need {}: give fewer --models",
		network.validators,
		network.models,
		network.models * capacity::MOST_SERVERS
	);
	let points = capacity::run(&network, cli.seed, |point, is_greedy| {
		if cli.json {
			return;
		}
		if is_greedy {
			print!("{}", point.beside_greed());
		} else {
			print!("{}", point.text(&network));
		}
	});
	if cli.json {
		println!("{}", serde_json::to_string(&points)?);
	}
	Ok(())
}

/// Searches.
fn searched(cli: &Cli) -> Result<()> {
	ensure!(
		cli.hunts > 0,
		"nothing is searched in no hunts: give --hunts 1 or more"
	);
	let prizes = cli.prizes();
	let each = cli.episodes / cli.validators.len().max(1) as u64;
	let mut reports = Vec::new();
	for validators in &cli.validators {
		let mut arena = Arena::new(*validators, cli.party, prizes);
		let forbidden = Forbidden::of(&cli.without);
		let told = |finding: &Finding| {
			eprintln!(
				"{validators} validators, {} policies, {} requests:\n{finding}",
				finding.tried, finding.episodes
			);
		};
		let findings = search(&mut arena, forbidden, cli.hunts, each, cli.seed, told);
		let report = Report::new(&mut arena, prizes, findings, BELIEVED, cli.seed);
		if !cli.json {
			println!("{}", report.text());
		}
		reports.push(report);
	}
	if cli.figures {
		print!("{}", figures(cli.party, &reports));
	}
	if cli.json {
		println!("{}", serde_json::to_string_pretty(&reports)?);
	}
	Ok(())
}

/// Figures of all networks together.
fn figures(party: usize, reports: &[Report]) -> String {
	let best = reports.iter().map(Report::best).fold(0.0, f64::max);
	let slashed: f64 = reports.iter().map(|r| r.honest.honest_slashed).sum();
	let (episodes, tried) = reports.iter().fold((0, 0), |(episodes, tried), r| {
		(episodes + r.episodes, tried + r.tried)
	});
	let calls = reports.iter().filter_map(|r| r.closest_call.as_ref());
	let closest = calls.map(|c| c.break_even).reduce(f64::min);
	let closest = closest.map_or(
		"no false answer became final often enough to say".into(),
		|prize| format!("the closest call pays from a prize of {prize:.0} coins"),
	);
	format!(
		"figure strategist_profit_of_{party}_percent = {best:.1} [at most 0] coins a play over honest work, {episodes} requests played with \
		 {tried} policies; {closest}\n\
		 figure strategist_honest_slashed_by_{party}_percent = {slashed:.0} [at most 0] coins of stake in all plays\n"
	)
}
