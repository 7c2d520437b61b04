//! What the engine's process may not do: a model file is a program by a stranger, and ONNX Runtime, a tokenizer and a driver
//! are a lot of code to run it with.
//!
//! | | how | where it is refused |
//! |---|---|---|
//! | memory | `RLIMIT_DATA`, three quarters of what the machine or its control group has unless said otherwise | allocations fail |
//! | the machine's memory running out | `oom_score_adj` | the kernel ends this process first, not the node |
//! | network | a network namespace without interfaces, and a filter of system calls that refuses `socket` | `EPERM` |
//! | privileges | `no_new_privs`, no capabilities, no other program is started, no signals to other processes | `EPERM` |
//! | core dumps | not dumpable, `RLIMIT_CORE` of zero | weights and prompts stay off the disk |
//!
//! A kernel may refuse any of these, a container most often the namespace. The process then goes on with what it got, and the
//! log says what is in force, what is not, and why. Files are not hidden from the process: it reads models, libraries and
//! devices with the node's own permissions.

use std::{
	fs,
	io::{self, ErrorKind},
	path::{Path, PathBuf},
};

use rustix::{
	process::{
		getgid, getpid, getrlimit, getuid, set_dumpable_behavior, setrlimit, DumpableBehavior,
		Resource, Rlimit,
	},
	thread::{
		set_capabilities, set_no_new_privs, unshare_unsafe, CapabilitySet, CapabilitySets,
		UnshareFlags,
	},
};
use seccompiler::{
	BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
	SeccompFilter, SeccompRule,
};

use crate::LOG_TARGET;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
	/// Bytes of data memory after which allocations fail; none for [`default_memory_limit`]. External weights count as well:
	/// ONNX Runtime maps their files as memory that it could write.
	pub memory_limit: Option<u64>,
	/// Whether to enter namespaces of its own, where the kernel allows that.
	pub namespaces: bool,
	/// Whether to keep capabilities: a tool that a person runs as root reads and writes where root may.
	pub capabilities: bool,
	/// Whether a GPU's driver runs in the process. It opens local sockets and may start its own helper.
	pub driver: bool,
}

impl Default for Isolation {
	fn default() -> Self {
		Self {
			memory_limit: None,
			namespaces: true,
			capabilities: false,
			driver: false,
		}
	}
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
	/// In force.
	pub in_force: Vec<String>,
	/// Not in force, and why.
	pub missing: Vec<String>,
}

impl Report {
	fn note(&mut self, what: &str, result: Result<(), impl std::fmt::Display>) -> bool {
		match result {
			Ok(()) => self.in_force.push(what.into()),
			Err(why) => {
				self.missing.push(format!("{what} ({why})"));
				return false;
			}
		}
		true
	}

	/// Writes it to the log.
	pub fn log(&self) {
		tracing::info!(target: LOG_TARGET, "isolation in force: {}", self.in_force.join(", "));
		if !self.missing.is_empty() {
			tracing::warn!(target: LOG_TARGET, "isolation NOT in force: {}", self.missing.join(", "));
		}
	}
}

/// Takes from this process what an engine does not need, for good. It must have one thread only: threads that run already keep
/// what they have. Fails where memory cannot be limited; everything else is in the report.
pub fn isolate(wanted: &Isolation) -> io::Result<Report> {
	let mut report = Report::default();
	let limit = limit_memory(wanted.memory_limit)?;
	report
		.in_force
		.push(format!("memory limit of {} MiB", limit >> 20));
	report.note(
		"first to go when the machine's memory runs out",
		fs::write("/proc/self/oom_score_adj", "1000"),
	);
	let namespaces = if wanted.namespaces {
		enter_namespaces()
	} else {
		Err(io::Error::other("switched off"))
	};
	let namespace = report.note("network namespace of its own", namespaces);
	if !wanted.capabilities {
		report.note("no capabilities", drop_capabilities());
	}
	report.note("no new privileges", set_no_new_privs(true));
	report.note("no core dumps", forbid_core_dumps());
	// Last, because it refuses some of the calls above.
	let filter = report.note(
		if wanted.driver {
			"system calls filtered (sockets other than local ones)"
		} else {
			"system calls filtered (sockets, other programs, signals)"
		},
		filter_system_calls(wanted.driver),
	);
	if !namespace && !filter {
		report.missing.push(
			"NO NETWORK: this process can reach the network. Run a kernel with user namespaces or seccomp, or serve only \
			 models that you trust"
				.into(),
		);
	}
	Ok(report)
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
	let limit = wanted.min(getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX));
	let both = Rlimit {
		current: Some(limit),
		maximum: Some(limit),
	};
	setrlimit(Resource::Data, both)?;
	Ok(limit)
}

/// A user namespace, which anybody may make where the kernel is so configured, and in it a network namespace, which holds nothing
/// but a loopback interface that is down.
fn enter_namespaces() -> io::Result<()> {
	let (user, group) = (getuid().as_raw(), getgid().as_raw());
	// SAFETY: no table of file descriptors is unshared, which is what can confuse other threads.
	unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }?;
	// Files made here belong to the same user as before. Without the maps everything works but that.
	let map = |file: &str, text: &str| fs::write(Path::new("/proc/self").join(file), text);
	if let Err(e) = map("setgroups", "deny")
		.and_then(|()| map("uid_map", &format!("{user} {user} 1")))
		.and_then(|()| map("gid_map", &format!("{group} {group} 1")))
	{
		tracing::debug!(target: LOG_TARGET, "user namespace without names: {e}");
	}
	Ok(())
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

/// System calls that no engine needs: ways to the network, to other processes, and into seldom used parts of the kernel.
const REFUSED: &[libc::c_long] = &[
	libc::SYS_add_key,
	libc::SYS_bpf,
	libc::SYS_chroot,
	libc::SYS_delete_module,
	libc::SYS_finit_module,
	libc::SYS_init_module,
	libc::SYS_io_uring_setup,
	libc::SYS_kexec_load,
	libc::SYS_keyctl,
	libc::SYS_kill,
	libc::SYS_mount,
	libc::SYS_open_by_handle_at,
	libc::SYS_perf_event_open,
	libc::SYS_pidfd_getfd,
	libc::SYS_pidfd_send_signal,
	libc::SYS_pivot_root,
	libc::SYS_process_vm_readv,
	libc::SYS_process_vm_writev,
	libc::SYS_ptrace,
	libc::SYS_request_key,
	libc::SYS_rt_sigqueueinfo,
	libc::SYS_setns,
	libc::SYS_tkill,
	libc::SYS_umount2,
	libc::SYS_unshare,
	libc::SYS_userfaultfd,
];

fn filter_system_calls(driver: bool) -> Result<(), seccompiler::Error> {
	let rule = |argument, operator, value| {
		SeccompCondition::new(argument, Dword, operator, value)
			.and_then(|condition| SeccompRule::new(vec![condition]))
	};
	let mut rules: Vec<(libc::c_long, Vec<SeccompRule>)> =
		REFUSED.iter().map(|call| (*call, vec![])).collect();
	// A process may still abort itself.
	let itself = getpid().as_raw_nonzero().get() as u64;
	rules.push((libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Ne, itself)?]));
	let new_user = libc::CLONE_NEWUSER as u64;
	rules.push((
		libc::SYS_clone,
		vec![rule(0, SeccompCmpOp::MaskedEq(new_user), new_user)?],
	));
	if driver {
		let local = libc::AF_UNIX as u64;
		rules.push((libc::SYS_socket, vec![rule(0, SeccompCmpOp::Ne, local)?]));
	} else {
		rules.extend(
			[libc::SYS_socket, libc::SYS_execve, libc::SYS_execveat].map(|call| (call, vec![])),
		);
	}
	// The same calls once more under the numbers of x32, an interface of the same architecture that some kernels have.
	#[cfg(target_arch = "x86_64")]
	{
		let x32 = rules.clone();
		rules.extend(
			x32.into_iter()
				.map(|(call, rules)| (call | 0x4000_0000, rules)),
		);
	}
	let filter = SeccompFilter::new(
		rules.into_iter().collect(),
		SeccompAction::Allow,
		SeccompAction::Errno(libc::EPERM as u32),
		std::env::consts::ARCH.try_into()?,
	)?;
	let program: BpfProgram = filter.try_into()?;
	seccompiler::apply_filter(&program)
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
