//! The process stands between the node and the engine: it enters namespaces, starts the engine in them, waits, and ends as the
//! engine ended. It does nothing else and reads nothing that a model could have written.
//!
//! It is there for two things that one process alone cannot have: a process namespace, which holds a process's children and not
//! itself, and a signal at the parent's death. That comes with the end of the *thread* that started a process, and a node's
//! threads come and go; the guard has one thread, for as long as it lives.

use std::{
	fs, io,
	os::fd::{AsFd, BorrowedFd, OwnedFd},
	path::Path,
};

use rustix::{
	event::{poll, PollFd, PollFlags, Timespec},
	process::{
		getgid, getpid, getppid, getuid, kill_process, pidfd_open, set_parent_process_death_signal,
		setrlimit, waitpid, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus,
	},
};

use crate::LOG_TARGET;

/// How long an engine may go on when its node is gone. One that is sound ends at once.
const GRACE: Timespec = Timespec {
	tv_sec: 2,
	tv_nsec: 0,
};

/// What came of it, in the engine's process.
pub(super) struct Entered {
	/// The namespaces that are this process's own, or why there are none.
	pub(super) namespaces: io::Result<&'static str>,
	/// Whether it ends with its parent, the guard.
	pub(super) ends: io::Result<()>,
}

/// Splits the process in two. Returns in the engine's process alone, which has everything that this one had but the thread.
/// `lifeline` is a connection whose other end the node has: when that is closed the guard ends the engine.
///
/// # Safety
/// The process must have one thread.
pub(super) unsafe fn split(
	namespaces: bool,
	lifeline: Option<BorrowedFd<'_>>,
) -> io::Result<Entered> {
	let namespaces = if namespaces {
		enter_namespaces()
	} else {
		Err(io::Error::other("switched off"))
	};
	let guard = getpid();
	// SAFETY: there is one thread, the caller says, so that the child finds no lock that nobody would open.
	match unsafe { libc::fork() } {
		-1 => Err(io::Error::last_os_error()),
		0 => {
			let ends = set_parent_process_death_signal(Some(Signal::KILL));
			// In a process namespace the guard has no number; whoever ended before this will be missed on the connection.
			if getppid().is_some_and(|parent| parent != guard) {
				super::end(1);
			}
			Ok(Entered {
				namespaces,
				ends: ends.map_err(Into::into),
			})
		}
		child => watch(Pid::from_raw(child), lifeline),
	}
}

/// A namespace of users, which anybody may make where the kernel is so configured, and in it one of networks, which holds nothing
/// but a loopback interface that is down; one of processes, whose first is the next child; and one of what processes share.
fn enter_namespaces() -> io::Result<&'static str> {
	let (user, group) = (getuid().as_raw(), getgid().as_raw());
	let most = libc::CLONE_NEWUSER
		| libc::CLONE_NEWNET
		| libc::CLONE_NEWPID
		| libc::CLONE_NEWIPC
		| libc::CLONE_NEWUTS;
	let least = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
	let unshare = |flags| {
		// SAFETY: no table of file descriptors is unshared, which is what can confuse other threads.
		match unsafe { libc::unshare(flags) } {
			0 => Ok(()),
			_ => Err(io::Error::last_os_error()),
		}
	};
	let entered = match unshare(most) {
		Ok(()) => "users, networks, processes, their shared memory and names",
		Err(_) => {
			unshare(least)?;
			"users and networks"
		}
	};
	// Files made here belong to the same user as before. Without the maps everything works but that.
	let map = |file: &str, text: &str| fs::write(Path::new("/proc/self").join(file), text);
	if let Err(e) = map("setgroups", "deny")
		.and_then(|()| map("uid_map", &format!("{user} {user} 1")))
		.and_then(|()| map("gid_map", &format!("{group} {group} 1")))
	{
		tracing::debug!(target: LOG_TARGET, "user namespace without names: {e}");
	}
	Ok(entered)
}

/// Waits for the engine's end, sees to it when the node is gone, and ends as it did.
fn watch(engine: Option<Pid>, lifeline: Option<BorrowedFd<'_>>) -> ! {
	let Some(engine) = engine else { super::end(1) };
	// Kernels before 5.3 have no such thing: the connection's end alone ends the engine there.
	if let Ok(ended) = pidfd_open(engine, PidfdFlags::empty()) {
		wait(engine, &ended, lifeline);
	}
	loop {
		match waitpid(Some(engine), WaitOptions::empty()) {
			Ok(Some((_, status))) => end_as(status),
			Err(rustix::io::Errno::INTR) | Ok(None) => (),
			Err(_) => super::end(1),
		}
	}
}

/// Returns when the engine has ended or was told to.
fn wait(engine: Pid, ended: &OwnedFd, lifeline: Option<BorrowedFd<'_>>) {
	let Some(lifeline) = lifeline else { return };
	loop {
		// Of the connection nothing but its end is asked for.
		let mut events = [
			PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
			PollFd::from_borrowed_fd(lifeline, PollFlags::empty()),
		];
		match poll(&mut events, None) {
			Err(rustix::io::Errno::INTR) => continue,
			Err(_) => return,
			Ok(_) => (),
		}
		if !events[0].revents().is_empty() {
			return;
		}
		if !events[1].revents().is_empty() {
			let mut events = [PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
			if !matches!(poll(&mut events, Some(&GRACE)), Ok(1)) {
				// Fails where it has ended in between.
				let _ = kill_process(engine, Signal::KILL);
			}
			return;
		}
	}
}

fn end_as(status: WaitStatus) -> ! {
	if let Some(signal) = status.terminating_signal() {
		let none = Rlimit {
			current: Some(0),
			maximum: Some(0),
		};
		// The same signal says what happened; it needs no dump of this process.
		let _ = setrlimit(Resource::Core, none);
		// SAFETY: the signal's default action ends this process, and nothing of ours runs after it.
		unsafe {
			libc::signal(signal, libc::SIG_DFL);
			libc::raise(signal);
		}
		super::end(128 + signal);
	}
	super::end(status.exit_status().unwrap_or(1))
}
