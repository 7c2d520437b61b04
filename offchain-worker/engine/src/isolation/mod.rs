//! What the engine's process may do: a model file is a program by a stranger, and ONNX Runtime, a tokenizer and a driver are a
//! lot of code to run it with. Whatever is not in a list here is closed.
//!
//! | | how | where it is refused |
//! |---|---|---|
//! | memory | `RLIMIT_DATA`, three quarters of what the machine or its control group has unless said otherwise | allocations fail |
//! | the machine's memory running out | `oom_score_adj` | the kernel ends this process first, not the node |
//! | files | Landlock, or a mount namespace (`files.rs`): the models' folder and a few files of the system, to read | `EACCES` |
//! | network, other processes | namespaces of its own (`guard.rs`) | they are not there |
//! | the kernel | a list of system calls (`calls.rs`) | `EPERM`, or the process ends with `SIGSYS` |
//! | privileges | `no_new_privs`, no capabilities | `EPERM` |
//! | core dumps | not dumpable, `RLIMIT_CORE` of zero | weights and prompts stay off the disk |
//! | what it was born with | an environment of a few names, no files of its parent's ([`command`]) | |
//! | outliving the node | a guard that ends it (`guard.rs`) | |
//!
//! ONNX Runtime is loaded before the list of system calls comes into force, so that nothing can make memory that is executed
//! after it. A kernel may lack some of this, and a container may forbid it. The process then goes on with what it got, and the
//! [`Report`] says what is in force, what is not, why, and what that means. Operators read of it in `docs/operators/sandbox.md`.

mod calls;
mod files;
mod guard;

use std::{
	ffi::OsString,
	fs,
	io::{self, ErrorKind},
	os::{fd::BorrowedFd, unix::process::CommandExt},
	path::{Path, PathBuf},
	process::Command,
};

use codec::{Decode, Encode};
use rustix::{
	process::{
		getpid, getrlimit, set_dumpable_behavior, setrlimit, setsid, DumpableBehavior, Resource,
		Rlimit,
	},
	thread::{set_capabilities, set_no_new_privs, CapabilitySet, CapabilitySets},
};

use crate::LOG_TARGET;

/// Most files that the process has open: a model has a few, a device's driver some dozens.
const FILES: u64 = 1_024;

/// What a process is isolated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
	/// The node's engine. It sees these folders, to read, and whatever comes into them.
	Engine(Vec<PathBuf>),
	/// A tool that a person runs on a model that nobody has vouched for. It reads and writes where that person may, loads ONNX
	/// Runtime afterwards, and keeps its capabilities.
	Tool,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
	/// What for.
	pub purpose: Purpose,
	/// Bytes of data memory after which allocations fail; none for [`default_memory_limit`]. External weights count as well:
	/// ONNX Runtime maps their files as memory that it could write.
	pub memory_limit: Option<u64>,
	/// Whether to enter namespaces of its own, where the kernel allows that. Only for an engine.
	pub namespaces: bool,
	/// Whether to use Landlock where the kernel has it; without it a mount namespace does the same, if namespaces may be entered.
	pub landlock: bool,
	/// Whether to let the kernel refuse all system calls that are in no list.
	pub calls: bool,
	/// Whether a GPU's driver runs in the process. It opens devices and local sockets, compiles, and may start its own helper.
	pub driver: bool,
}

impl Isolation {
	/// All of it.
	pub fn new(purpose: Purpose) -> Self {
		Self {
			purpose,
			memory_limit: None,
			namespaces: true,
			landlock: true,
			calls: true,
			driver: false,
		}
	}
}

/// One way in which a process is isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Measure {
	/// A limit on memory.
	Memory,
	/// The first to go when the machine's memory runs out.
	FirstToGo,
	/// Nothing of the node's environment.
	Environment,
	/// No file that the node had open.
	Descriptors,
	/// It ends with the node.
	Ends,
	/// Namespaces of its own.
	Namespaces,
	/// Files hidden.
	Files,
	/// No capabilities, and no way to get any.
	Privileges,
	/// No core dumps.
	CoreDumps,
	/// System calls by a list.
	Calls,
}

impl Measure {
	/// What it is called in a log.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Memory => "memory limit",
			Self::FirstToGo => "first to go when the machine's memory runs out",
			Self::Environment => "cleared environment",
			Self::Descriptors => "no open files of the node",
			Self::Ends => "ends with the node",
			Self::Namespaces => "namespaces of its own",
			Self::Files => "files hidden",
			Self::Privileges => "no privileges",
			Self::CoreDumps => "no core dumps",
			Self::Calls => "system calls by a list",
		}
	}

	/// What it means that it is missing, and what to do.
	const fn meaning(self, calls: bool) -> &'static str {
		match (self, calls) {
			(Self::Memory, _) => "a model can take all memory",
			(Self::FirstToGo, _) => {
				"a machine without memory may end the node and not the engine: give the engine a lower --engine-memory-limit"
			}
			(Self::Environment, _) => "a model can read what stands there: start the node without secrets in its environment",
			(Self::Descriptors, _) => "a model may use files that the node has open",
			(Self::Ends, _) => "an engine may outlive a node that is killed",
			(Self::Namespaces, true) => {
				"the list of system calls keeps the process from the network and from other processes all the same"
			}
			(Self::Namespaces, false) => {
				"a model that breaks ONNX Runtime reaches the network and this user's processes: allow user namespaces"
			}
			(Self::Files, true) => {
				"a model that breaks ONNX Runtime can read every file that the node's user can, its keys among them, though it \
				 can write none and reach no network: run Linux 5.13 or newer with Landlock, or allow user namespaces"
			}
			(Self::Files, false) => {
				"a model that breaks ONNX Runtime can read and write every file that the node's user can, its keys among them: \
				 run Linux 5.13 or newer with Landlock, or allow user namespaces"
			}
			(Self::Privileges, _) => "do not run the node as root",
			(Self::CoreDumps, _) => "prompts and weights may come to lie in a dump",
			(Self::Calls, _) => {
				"a model that breaks ONNX Runtime can try every part of the kernel, the network's among them: run a kernel with \
				 seccomp filters, or serve only models that you trust"
			}
		}
	}
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Report {
	/// The process, by its number outside of its namespaces.
	pub pid: u32,
	/// In force, and how.
	pub in_force: Vec<(Measure, String)>,
	/// Not in force, and why.
	pub missing: Vec<(Measure, String)>,
}

impl Report {
	fn note<T: Into<String>>(
		&mut self,
		measure: Measure,
		result: Result<T, impl ToString>,
	) -> bool {
		match result {
			Ok(how) => self.in_force.push((measure, how.into())),
			Err(why) => {
				self.missing.push((measure, why.to_string()));
				return false;
			}
		}
		true
	}

	/// Whether this is in force.
	pub fn has(&self, measure: Measure) -> bool {
		self.in_force.iter().any(|(held, _)| *held == measure)
	}

	/// What is in force, in words.
	pub fn held(&self) -> String {
		let words = |(measure, how): &(Measure, String)| match &how[..] {
			"" => measure.name().to_owned(),
			how => format!("{} ({how})", measure.name()),
		};
		let list: Vec<_> = self.in_force.iter().map(words).collect();
		list.join(", ")
	}

	/// A line for each thing that is missing: why, and what that means.
	pub fn warnings(&self) -> Vec<String> {
		let calls = self.has(Measure::Calls);
		let line = |(measure, why): &(Measure, String)| {
			let (name, meaning) = (measure.name(), measure.meaning(calls));
			format!("{name}: missing ({why}). {meaning}")
		};
		self.missing.iter().map(line).collect()
	}

	/// Why a model that breaks ONNX Runtime would get out of this process, if it would.
	pub fn open_doors(&self) -> Option<String> {
		let doors = [Measure::Files, Measure::Calls, Measure::Privileges];
		let open: Vec<_> = doors
			.into_iter()
			.filter(|door| !self.has(*door))
			.map(Measure::name)
			.collect();
		(!open.is_empty()).then(|| format!("the engine has not: {}", open.join(", ")))
	}

	/// Writes it to the log.
	pub fn log(&self) {
		tracing::info!(target: LOG_TARGET, "the engine's sandbox: {}", self.held());
		for warning in self.warnings() {
			tracing::warn!(target: LOG_TARGET, "the engine's sandbox: {warning}");
		}
	}
}

/// Names of the environment that an engine's process gets; all others stay with the node.
const ENVIRONMENT: &[&str] = &[
	"CONSILIENCE_HOME",
	"CUDA_DEVICE_ORDER",
	"CUDA_VISIBLE_DEVICES",
	"HOME",
	"LANG",
	"LD_LIBRARY_PATH",
	"NVIDIA_VISIBLE_DEVICES",
	"ORT_DISABLE_TELEMETRY",
	"ORT_DYLIB_PATH",
	"RUST_BACKTRACE",
	"XDG_DATA_HOME",
];
/// What it gets besides: a driver writes what it compiled to the home folder otherwise, which it does not see.
const CUDA_CACHE: &str = "CUDA_CACHE_DISABLE";

/// Has a program that becomes an engine's process be born with nothing of this one's: a few names of the environment, no open
/// files but the standard ones, a session of its own.
pub fn command(command: &mut Command) {
	let variables: Vec<(&str, OsString)> = ENVIRONMENT
		.iter()
		.filter_map(|name| Some((*name, std::env::var_os(name)?)))
		.collect();
	command
		.env_clear()
		.envs(variables)
		.env(CUDA_CACHE, "1")
		// ONNX Runtime is loaded before the network is gone where there are no namespaces.
		.env("ORT_DISABLE_TELEMETRY", "1");
	// SAFETY: between fork and exec only system calls are made, and nothing is allocated.
	unsafe {
		command.pre_exec(|| {
			setsid()?;
			// At exec, so that the pipe on which a failed start is told stays open until then.
			let cloexec = libc::CLOSE_RANGE_CLOEXEC as libc::c_long;
			let close = libc::SYS_close_range;
			if libc::syscall(
				close,
				3 as libc::c_long,
				libc::c_long::from(u32::MAX),
				cloexec,
			) != 0
			{
				// Before Linux 5.9 (the flag: 5.11), one by one.
				let most = getrlimit(Resource::Nofile)
					.current
					.unwrap_or(FILES)
					.min(1 << 16);
				for file in 3..most as libc::c_int {
					libc::fcntl(file, libc::F_SETFD, libc::FD_CLOEXEC);
				}
			}
			Ok(())
		});
	}
}

/// An engine's process that has entered its namespaces and is yet to give up the rest.
pub struct Begun {
	wanted: Isolation,
	report: Report,
	namespaces: bool,
}

/// Begins to isolate an engine's process: enters namespaces, and leaves a guard behind that waits for this process, ends as it
/// does, and ends it when the other end of `lifeline` is closed. Returns in a child of the process that called it. What is loaded
/// and opened before [`Begun::finish`] is there afterwards.
/// Fails where the process has more than one thread: others would be missing in the child, with whatever they had locked.
pub fn begin(wanted: Isolation, lifeline: Option<BorrowedFd<'_>>) -> io::Result<Begun> {
	if threads().is_some_and(|n| n != 1) {
		return Err(io::Error::other(
			"a process that runs threads already cannot become an engine's",
		));
	}
	// SAFETY: there is one thread; where `/proc` does not say so, that is what the caller was told.
	let entered = unsafe { guard::split(wanted.namespaces, lifeline) }?;
	let mut report = Report {
		pid: own_pid(),
		..Default::default()
	};
	report.note(Measure::Ends, entered.ends.map(|()| ""));
	let namespaces = report.note(Measure::Namespaces, entered.namespaces);
	report.note(Measure::Environment, environment());
	report.note(Measure::Descriptors, descriptors());
	Ok(Begun {
		wanted,
		report,
		namespaces,
	})
}

impl Begun {
	/// Takes from this process what an engine does not need, for good. Threads that run already keep what files they saw.
	/// Fails where memory cannot be limited; everything else is in the report.
	pub fn finish(self) -> io::Result<Report> {
		let Self {
			wanted,
			mut report,
			namespaces,
		} = self;
		let limit = limit_memory(wanted.memory_limit)?;
		report.note(
			Measure::Memory,
			Ok::<_, io::Error>(format!("{} MiB", limit >> 20)),
		);
		report.note(
			Measure::FirstToGo,
			fs::write("/proc/self/oom_score_adj", "1000").map(|()| ""),
		);
		if let Purpose::Engine(folders) = &wanted.purpose {
			let hidden = match threads() {
				Some(1) => files::hide(&wanted, folders, namespaces),
				Some(n) => Err(format!("{n} threads run already")),
				None => Err("how many threads run is not known".into()),
			};
			report.note(Measure::Files, hidden);
			let most = Rlimit {
				current: Some(FILES),
				maximum: Some(FILES),
			};
			// Fails where there are fewer already.
			let _ = setrlimit(Resource::Nofile, most);
			let none = drop_capabilities().and_then(|()| Ok(set_no_new_privs(true)?));
			report.note(Measure::Privileges, none.map(|()| ""));
		} else {
			report.note(
				Measure::Privileges,
				set_no_new_privs(true).map(|()| "no more than it has"),
			);
		}
		report.note(Measure::CoreDumps, forbid_core_dumps().map(|()| ""));
		// Last, because it refuses most of the calls above.
		let how = if wanted.driver {
			"as a GPU's driver needs them"
		} else {
			""
		};
		let filtered = if wanted.calls {
			calls::filter(&wanted).map_err(|e| e.to_string())
		} else {
			Err("switched off".into())
		};
		report.note(Measure::Calls, filtered.map(|()| how));
		Ok(report)
	}
}

/// Isolates this process as it is, for tools: without namespaces and a guard.
pub fn isolate(wanted: Isolation) -> io::Result<Report> {
	let begun = Begun {
		report: Report {
			pid: own_pid(),
			..Default::default()
		},
		wanted,
		namespaces: false,
	};
	begun.finish()
}

/// Ends the process at once. Ordinary exit would run ONNX Runtime's destructors beside the threads that may still be inside it.
pub(crate) fn end(code: i32) -> ! {
	// SAFETY: ends the process; nothing runs after it, and nothing of ours is left half written on disk.
	unsafe { libc::_exit(code) }
}

/// This process's number as the rest of the machine knows it: `/proc` shows that of whoever mounted it.
fn own_pid() -> u32 {
	let shown = fs::read_link("/proc/self").ok();
	let shown = shown.and_then(|link| link.to_str()?.parse().ok());
	shown.unwrap_or_else(|| getpid().as_raw_nonzero().get() as u32)
}

fn threads() -> Option<usize> {
	Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Whether this process was born with the names that [`command`] leaves, and no others.
fn environment() -> Result<&'static str, String> {
	let known = |name: &OsString| {
		let mut names = ENVIRONMENT.iter().chain([&CUDA_CACHE]);
		names.any(|known| name == known)
	};
	match std::env::vars_os().filter(|(name, _)| !known(name)).count() {
		0 => Ok(""),
		n => Err(format!("{n} other variables")),
	}
}

/// Whether this process has no other file open than the standard ones.
fn descriptors() -> Result<&'static str, String> {
	let open = fs::read_dir("/proc/self/fd").map_err(|e| e.to_string())?;
	let others = open
		.flatten()
		.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
		.filter(|file| *file > 2)
		.count();
	// One is that folder.
	match others.saturating_sub(1) {
		0 => Ok(""),
		n => Err(format!("{n} are open")),
	}
}

/// Three quarters of the memory that this process can have, in bytes; none where the system does not say.
pub fn default_memory_limit() -> Option<u64> {
	let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
	let total = meminfo
		.lines()
		.find_map(|l| l.strip_prefix("MemTotal:"))?
		.trim()
		.trim_end_matches(" kB")
		.parse::<u64>()
		.ok()?
		.saturating_mul(1024);
	let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
	let total = total.min(group_limit(Path::new("/sys/fs/cgroup"), &group).unwrap_or(u64::MAX));
	Some(total / 4 * 3)
}

/// The smallest memory limit of this process's control group (version 2) and those above it.
fn group_limit(root: &Path, membership: &str) -> Option<u64> {
	let own = membership.lines().find_map(|l| l.strip_prefix("0::/"))?;
	let folder: PathBuf = root.join(own);
	folder
		.ancestors()
		.take_while(|f| f.starts_with(root))
		.filter_map(|f| fs::read_to_string(f.join("memory.max")).ok())
		.filter_map(|text| text.trim().parse().ok())
		.min()
}

fn limit_memory(wanted: Option<u64>) -> io::Result<u64> {
	let wanted = wanted.or_else(default_memory_limit).ok_or_else(|| {
		io::Error::new(
			ErrorKind::Unsupported,
			"how much memory this machine has is not known: give the engine a memory limit",
		)
	})?;
	// Never more than a limit that is in force already.
	let held = getrlimit(Resource::Data);
	let limit = wanted.min(held.maximum.unwrap_or(u64::MAX));
	if (held.current, held.maximum) == (Some(limit), Some(limit)) {
		// Whoever is isolated already may not set limits, not even to what they are.
		return Ok(limit);
	}
	let both = Rlimit {
		current: Some(limit),
		maximum: Some(limit),
	};
	setrlimit(Resource::Data, both)?;
	Ok(limit)
}

fn drop_capabilities() -> io::Result<()> {
	let none = CapabilitySet::empty();
	Ok(set_capabilities(
		None,
		CapabilitySets {
			effective: none,
			permitted: none,
			inheritable: none,
		},
	)?)
}

fn forbid_core_dumps() -> io::Result<()> {
	let none = Rlimit {
		current: Some(0),
		maximum: Some(0),
	};
	setrlimit(Resource::Core, none)?;
	// A dump that goes to a program does not ask for the limit.
	Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_smallest_limit_of_the_groups_above_counts() {
		let root = tempfile::tempdir().unwrap();
		let group = root.path().join("node.slice/engine.scope");
		fs::create_dir_all(&group).unwrap();
		let membership = "1:name=systemd:/\n0::/node.slice/engine.scope\n";
		assert_eq!(group_limit(root.path(), membership), None);
		fs::write(group.join("memory.max"), "max\n").unwrap();
		assert_eq!(group_limit(root.path(), membership), None);
		fs::write(group.join("memory.max"), "3000\n").unwrap();
		fs::write(root.path().join("node.slice/memory.max"), "2000\n").unwrap();
		assert_eq!(group_limit(root.path(), membership), Some(2_000));
		assert_eq!(group_limit(root.path(), "2:memory:/a\n"), None);
	}

	#[test]
	fn the_default_leaves_memory_to_others() {
		let limit = default_memory_limit().unwrap();
		assert!(limit >= 64 << 20, "{limit}");
		let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
		let total: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
		assert!(limit <= total * 1024 / 4 * 3, "{limit} of {total} kB");
	}
}
