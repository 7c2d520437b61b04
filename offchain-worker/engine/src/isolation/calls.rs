//! System calls that the process may make: those that ONNX Runtime, its threads, the C library's allocator, a tokenizer and our
//! server make, by their names and, where that matters, their arguments.
//!
//! Three filters stand behind each other, and the strictest answer counts: what is in no list ends the process; what is refused,
//! or allowed with other arguments, fails with `EPERM`, because harmless code tries it and goes on without; what the C library
//! only probes for does not exist (`ENOSYS`), so that it takes the older call, whose arguments a filter can see.
//!
//! The lists were made from what `strace` showed of this crate's tests, and from the C library's sources for calls that tests do
//! not reach.

use std::collections::BTreeMap;

use libc::*;
use rustix::process::getpid;
use seccompiler::{
	BpfProgram, SeccompAction,
	SeccompCmpArgLen::{Dword, Qword},
	SeccompCmpOp::{Eq, MaskedEq, Ne},
	SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{Isolation, Purpose};

type Call = c_long;
type Rules = BTreeMap<Call, Vec<SeccompRule>>;

/// Calls that every program needs: memory, threads, clocks, its own state, and reading files that it can see.
const ALLOWED: &[Call] = &[
	SYS_brk,
	SYS_clock_getres,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_close,
	SYS_close_range,
	SYS_dup,
	SYS_exit,
	SYS_exit_group,
	SYS_faccessat,
	SYS_faccessat2,
	SYS_fadvise64,
	SYS_fstat,
	SYS_futex,
	SYS_getcpu,
	SYS_getcwd,
	SYS_getdents64,
	SYS_getegid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getpid,
	SYS_getppid,
	SYS_getrandom,
	SYS_getrusage,
	SYS_gettid,
	SYS_gettimeofday,
	SYS_getuid,
	SYS_lseek,
	SYS_madvise,
	SYS_membarrier,
	SYS_mincore,
	SYS_mremap,
	SYS_munmap,
	SYS_nanosleep,
	SYS_newfstatat,
	SYS_ppoll,
	SYS_pread64,
	SYS_preadv,
	SYS_read,
	SYS_readahead,
	SYS_readlinkat,
	SYS_readv,
	SYS_recvfrom,
	SYS_restart_syscall,
	SYS_rseq,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sched_getaffinity,
	SYS_sched_getparam,
	SYS_sched_getscheduler,
	SYS_sched_yield,
	SYS_set_robust_list,
	SYS_set_tid_address,
	SYS_shutdown,
	SYS_sigaltstack,
	SYS_statx,
	SYS_sysinfo,
	SYS_times,
	SYS_uname,
	SYS_write,
	SYS_writev,
];

/// The same by names that the newer architecture does not have. `arch_prctl` asks for the processor's matrix registers.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[Call] = &[
	SYS_access,
	SYS_arch_prctl,
	SYS_getdents,
	SYS_getrlimit,
	SYS_lstat,
	SYS_poll,
	SYS_readlink,
	SYS_stat,
	SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[Call] = &[];

/// Calls that libraries try and do without. They fail instead of ending the process, and a model gets none of them.
const REFUSED: &[Call] = &[
	SYS_accept4,
	SYS_bind,
	SYS_connect,
	SYS_epoll_create1,
	SYS_eventfd2,
	SYS_execve,
	SYS_execveat,
	SYS_fallocate,
	SYS_fchmod,
	SYS_fdatasync,
	SYS_flock,
	SYS_fstatfs,
	SYS_fsync,
	SYS_ftruncate,
	SYS_get_mempolicy,
	SYS_getpeername,
	SYS_getpriority,
	SYS_getsockname,
	SYS_getsockopt,
	SYS_inotify_init1,
	SYS_ioctl,
	SYS_kill,
	SYS_listen,
	SYS_mbind,
	SYS_memfd_create,
	SYS_mkdirat,
	SYS_mlock,
	SYS_mlock2,
	SYS_mlockall,
	SYS_munlock,
	SYS_pipe2,
	SYS_pwrite64,
	SYS_recvmsg,
	SYS_renameat2,
	SYS_sched_setaffinity,
	SYS_sched_setattr,
	SYS_sched_setparam,
	SYS_sched_setscheduler,
	SYS_sendmsg,
	SYS_set_mempolicy,
	SYS_setpriority,
	SYS_setsockopt,
	SYS_socket,
	SYS_socketpair,
	SYS_statfs,
	SYS_tkill,
	SYS_unlinkat,
	SYS_wait4,
	SYS_waitid,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[Call] = &[
	SYS_creat,
	SYS_fork,
	SYS_mkdir,
	SYS_pipe,
	SYS_rename,
	SYS_renameat,
	SYS_rmdir,
	SYS_setrlimit,
	SYS_unlink,
	SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[Call] = &[];

/// Calls that the C library probes for. A filter sees only a pointer to the arguments of `clone3` and `openat2`.
const UNKNOWN: &[Call] = &[SYS_clone3, SYS_openat2, SYS_futex_waitv];

/// What the driver of a GPU needs besides: its devices, shared memory, local sockets, and a helper program.
const DRIVER: &[Call] = &[
	SYS_accept4,
	SYS_bind,
	SYS_connect,
	SYS_dup3,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_epoll_pwait,
	SYS_eventfd2,
	SYS_execve,
	SYS_fallocate,
	SYS_fchmod,
	SYS_fstatfs,
	SYS_ftruncate,
	SYS_get_mempolicy,
	SYS_getpeername,
	SYS_getpriority,
	SYS_getsockname,
	SYS_getsockopt,
	SYS_listen,
	SYS_mbind,
	SYS_memfd_create,
	SYS_mlock,
	SYS_mlock2,
	SYS_munlock,
	SYS_pipe2,
	SYS_pwrite64,
	SYS_recvmsg,
	SYS_sendmsg,
	SYS_set_mempolicy,
	SYS_setsockopt,
	SYS_statfs,
	SYS_wait4,
];
#[cfg(target_arch = "x86_64")]
const DRIVER_HERE: &[Call] = &[SYS_dup2, SYS_epoll_wait, SYS_pipe, SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const DRIVER_HERE: &[Call] = &[];

/// What a tool needs besides, which writes what it made of a model where the person who runs it says.
const TOOL: &[Call] = &[
	SYS_chdir,
	SYS_copy_file_range,
	SYS_dup3,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_epoll_pwait,
	SYS_eventfd2,
	SYS_fallocate,
	SYS_fchdir,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fdatasync,
	SYS_flock,
	SYS_fstatfs,
	SYS_fsync,
	SYS_ftruncate,
	SYS_getpgid,
	SYS_getsid,
	SYS_linkat,
	SYS_mkdirat,
	SYS_msync,
	SYS_pipe2,
	SYS_pwrite64,
	SYS_pwritev,
	SYS_renameat2,
	SYS_sendfile,
	SYS_statfs,
	SYS_symlinkat,
	SYS_umask,
	SYS_unlinkat,
	SYS_utimensat,
];
#[cfg(target_arch = "x86_64")]
const TOOL_HERE: &[Call] = &[
	SYS_chmod,
	SYS_dup2,
	SYS_epoll_wait,
	SYS_link,
	SYS_mkdir,
	SYS_rename,
	SYS_renameat,
	SYS_rmdir,
	SYS_symlink,
	SYS_sync_file_range,
	SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const TOOL_HERE: &[Call] = &[];

/// Flags of `open` other than for reading what is there.
const WRITES: u64 = (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | O_PATH | O_ASYNC) as u64
	// `O_TMPFILE` without the bit of `O_DIRECTORY` in it.
	| (O_TMPFILE & !O_DIRECTORY) as u64;

/// Flags of `clone` for namespaces, for a child of somebody else, and for one that a debugger sees.
const FOREIGN: u64 = (CLONE_NEWCGROUP
	| CLONE_NEWIPC
	| CLONE_NEWNET
	| CLONE_NEWNS
	| CLONE_NEWPID
	| CLONE_NEWUSER
	| CLONE_NEWUTS
	| CLONE_PARENT
	| CLONE_PTRACE) as u32 as u64;
const THREAD: u64 = (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND) as u64;

/// What a tool asks of terminals and files: what they are, how wide, how much there is to read, and to be told rather than wait.
const ASKED: &[Ioctl] = &[TCGETS, TCGETS2, TIOCGWINSZ, FIONBIO, FIOCLEX, FIONREAD];
/// What puts words into a terminal, as if the person at it had typed them.
const TYPED: &[Ioctl] = &[TIOCSTI, TIOCLINUX];

/// What may be asked of a device by `ioctl`.
enum Devices {
	/// Nothing.
	None,
	/// [`ASKED`].
	Terminal,
	/// All but [`TYPED`]: a GPU's driver has numbers of its own, and opens no terminal, but may have inherited one.
	Driver,
}

/// Calls that are allowed with some arguments and refused with others.
struct Arguments {
	/// Whether memory that is executed may be made: by whoever still loads libraries or compiles for a device.
	code: bool,
	/// Whether files may be opened for more than reading.
	writes: bool,
	/// Whether other processes may be started: no namespaces, in any case.
	children: bool,
	/// Whether local sockets may be made.
	local: bool,
	devices: Devices,
}

impl Arguments {
	fn rules(&self) -> Result<Rules, seccompiler::Error> {
		let is = |argument, value| SeccompCondition::new(argument, Dword, Eq, value as u64);
		let masked =
			|argument, mask, value| SeccompCondition::new(argument, Qword, MaskedEq(mask), value);
		let one = |condition: Result<SeccompCondition, _>| {
			condition.and_then(|condition| SeccompRule::new(vec![condition]))
		};
		let mut rules = Rules::new();
		let exec = PROT_EXEC as u64;
		for call in [SYS_mmap, SYS_mprotect] {
			let data = if self.code {
				vec![]
			} else {
				vec![one(masked(2, exec, 0))?]
			};
			rules.insert(call, data);
		}
		let opens: &[(Call, u8)] = &[
			(SYS_openat, 2),
			#[cfg(target_arch = "x86_64")]
			(SYS_open, 1),
		];
		for (call, flags) in opens {
			let reads = if self.writes {
				vec![]
			} else {
				vec![one(masked(*flags, WRITES, O_RDONLY as u64))?]
			};
			rules.insert(*call, reads);
		}
		let clone = if self.children {
			masked(0, FOREIGN, 0)
		} else {
			masked(0, FOREIGN | THREAD, THREAD)
		};
		rules.insert(SYS_clone, vec![one(clone)?]);
		// To itself: a process may abort.
		let itself = getpid().as_raw_nonzero().get();
		rules.insert(SYS_tgkill, vec![one(is(0, itself))?]);
		// No signals to others (`F_SETOWN`, `F_SETSIG`, `O_ASYNC`), and leases and locks of nobody's files.
		let mut fcntl = [F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL]
			.map(|command| one(is(1, command)))
			.into_iter()
			.collect::<Result<Vec<_>, _>>()?;
		fcntl.push(SeccompRule::new(vec![
			is(1, F_SETFL)?,
			masked(2, O_ASYNC as u64, 0)?,
		])?);
		if self.writes {
			// Kinds of locks have the numbers from F_GETLK to F_SETLKW; `fcntl` of open files' own locks follow them.
			for command in [F_GETLK, F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW] {
				fcntl.push(one(is(1, command))?);
			}
		}
		rules.insert(SYS_fcntl, fcntl);
		// Names of threads and of memory; and what is in force already.
		let prctl = [PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_SET_NO_NEW_PRIVS]
			.map(|option| one(is(0, option)))
			.into_iter()
			.collect::<Result<Vec<_>, _>>()?;
		rules.insert(SYS_prctl, prctl);
		// Its own limits, to read.
		let own = SeccompRule::new(vec![is(0, 0)?, SeccompCondition::new(2, Qword, Eq, 0)?])?;
		rules.insert(SYS_prlimit64, vec![own]);
		// To whoever is at the other end, not to an address.
		let connected = SeccompCondition::new(4, Qword, Eq, 0);
		rules.insert(SYS_sendto, vec![one(connected)?]);
		// The kernel looks at these bits alone.
		let requested = |operator, request: Ioctl| {
			SeccompCondition::new(1, Dword, operator, u64::from(request as u32))
		};
		match self.devices {
			Devices::None => (),
			Devices::Terminal => {
				let asked = ASKED.iter().map(|request| one(requested(Eq, *request)));
				rules.insert(SYS_ioctl, asked.collect::<Result<_, _>>()?);
			}
			Devices::Driver => {
				let others = TYPED.iter().map(|request| requested(Ne, *request));
				let others = others.collect::<Result<_, _>>()?;
				rules.insert(SYS_ioctl, vec![SeccompRule::new(others)?]);
			}
		}
		if self.local {
			for call in [SYS_socket, SYS_socketpair] {
				rules.insert(call, vec![one(is(0, AF_UNIX))?]);
			}
		}
		Ok(rules)
	}
}

/// Filters the calls of all threads of this process, for good.
pub(super) fn filter(wanted: &Isolation) -> Result<(), seccompiler::Error> {
	let (tool, driver) = (matches!(wanted.purpose, Purpose::Tool), wanted.driver);
	let mut lists = vec![ALLOWED, ALLOWED_HERE];
	if driver {
		lists.extend([DRIVER, DRIVER_HERE]);
	}
	if tool {
		lists.extend([TOOL, TOOL_HERE]);
	}
	let mut allowed: Rules = lists
		.into_iter()
		.flatten()
		.map(|call| (*call, vec![]))
		.collect();
	let arguments = Arguments {
		code: driver || tool,
		writes: driver || tool,
		children: driver,
		local: driver,
		devices: match (driver, tool) {
			(true, _) => Devices::Driver,
			(false, true) => Devices::Terminal,
			(false, false) => Devices::None,
		},
	};
	allowed.extend(arguments.rules()?);
	let known: Rules = allowed
		.keys()
		.chain(REFUSED)
		.chain(REFUSED_HERE)
		.chain(UNKNOWN)
		.map(|call| (*call, vec![]))
		.collect();
	// What a driver calls is known to its maker, and a person's tool is not to die over a call that does no harm: they are
	// refused what is in no list. An engine on the CPU that makes such a call does what it never does.
	let otherwise = if driver || tool {
		errno(EPERM)
	} else {
		SeccompAction::KillProcess
	};
	let unknown: Rules = UNKNOWN.iter().map(|call| (*call, vec![])).collect();
	allowed.extend(unknown.clone());
	// Installing a filter is itself a call: the last one takes it away.
	allowed.insert(SYS_seccomp, vec![]);
	apply(unknown, errno(ENOSYS), SeccompAction::Allow)?;
	apply(allowed, SeccompAction::Allow, errno(EPERM))?;
	apply(known, SeccompAction::Allow, otherwise)
}

fn errno(code: c_int) -> SeccompAction {
	SeccompAction::Errno(code as u32)
}

fn apply(
	rules: Rules,
	matching: SeccompAction,
	otherwise: SeccompAction,
) -> Result<(), seccompiler::Error> {
	let filter = SeccompFilter::new(
		rules,
		otherwise,
		matching,
		std::env::consts::ARCH.try_into()?,
	)?;
	let program: BpfProgram = filter.try_into()?;
	seccompiler::apply_filter_all_threads(&program)
}
