//! The engine's process for the tests of this crate, and a process of the same kind that has gone bad.
//!
//! ```text
//! engine-process serve [models=FOLDER] [memory=BYTES] [load=MILLISECONDS] [run=MILLISECONDS] [grace=MILLISECONDS]
//! engine-process attack DOOR [TARGET] [models=FOLDER] [memory=BYTES] [left-out=namespaces,landlock,calls,all] [driver=yes] [tool=yes]
//! engine-process report …
//! engine-process linger …
//! ```
//!
//! `attack` isolates itself as an engine does and then tries one thing that no engine does. It says `done` or why not, unless
//! the kernel ends it. `linger` says its number and never ends by itself, not even when its standard input does.

use std::{
	collections::HashMap,
	ffi::CString,
	fs,
	io::{self, Error},
	net::{TcpStream, UdpSocket},
	os::{
		fd::AsFd,
		unix::{fs::OpenOptionsExt, net::UnixDatagram},
	},
	path::{Path, PathBuf},
	process::{Command, ExitCode},
	time::Duration,
};

use consilience_engine::{
	isolation::{begin, isolate, Isolation, Purpose, Report},
	server::{serve, ServerConfig, TimeLimits},
	Engine, EngineConfig,
};

/// More than the tests allow a process.
const HUGE: usize = 1 << 32;

fn main() -> ExitCode {
	let mut words: Vec<String> = std::env::args().skip(1).collect();
	let mut options: HashMap<String, String> = HashMap::new();
	words.retain(|word| match word.split_once('=') {
		Some((key, value)) => {
			options.insert(key.into(), value.into());
			false
		}
		None => true,
	});
	let mut words = words.into_iter();
	let what = words.next().unwrap_or_default();
	let result = match what.as_str() {
		"serve" => serve(server(&options)),
		"linger" => isolated(&options).map(|report| {
			println!("{}", report.pid);
			loop {
				std::thread::park();
			}
		}),
		"report" => isolated(&options).map(|report| {
			for (measure, how) in report.in_force {
				println!("{measure:?}: in force ({how})");
			}
			for (measure, why) in report.missing {
				println!("{measure:?}: missing ({why})");
			}
		}),
		"attack" => {
			let door = words.next().unwrap_or_default();
			let target = words.next().unwrap_or_default();
			isolated(&options).map(|_| match attack(&door, &target) {
				Ok(()) => println!("done"),
				Err(e) => println!("{e}"),
			})
		}
		other => Err(Error::other(format!("{other:?} is no command"))),
	};
	match result {
		Ok(()) => ExitCode::SUCCESS,
		Err(e) => {
			eprintln!("{e}");
			ExitCode::FAILURE
		}
	}
}

fn number(options: &HashMap<String, String>, key: &str) -> Option<u64> {
	options.get(key).and_then(|v| v.parse().ok())
}

fn models(options: &HashMap<String, String>) -> Vec<PathBuf> {
	options
		.get("models")
		.map(PathBuf::from)
		.into_iter()
		.collect()
}

fn server(options: &HashMap<String, String>) -> ServerConfig {
	let default = TimeLimits::default();
	let time = |key, default| number(options, key).map_or(default, Duration::from_millis);
	let mut config = ServerConfig {
		memory_limit: number(options, "memory"),
		models: models(options),
		time: TimeLimits {
			load: time("load", default.load),
			run: time("run", default.run),
			grace: time("grace", default.grace),
		},
		workers: 4,
		..Default::default()
	};
	config.engine.threads = 1;
	config
}

/// Isolates this process as the engine's is, without what is to be left out, and with ONNX Runtime loaded.
fn isolated(options: &HashMap<String, String>) -> io::Result<Report> {
	let left_out = |layer: &str| {
		let list = options.get("left-out").map_or("", |l| l);
		list.split(',').any(|l| l == layer)
	};
	if left_out("all") {
		return Ok(Report::default());
	}
	let said = |key: &str| options.get(key).is_some_and(|v| v == "yes");
	if said("tool") {
		return isolate(Isolation {
			memory_limit: number(options, "memory"),
			..Isolation::new(Purpose::Tool)
		});
	}
	let wanted = Isolation {
		memory_limit: number(options, "memory"),
		namespaces: !left_out("namespaces"),
		landlock: !left_out("landlock"),
		calls: !left_out("calls"),
		driver: said("driver"),
		..Isolation::new(Purpose::Engine(models(options)))
	};
	let input = io::stdin();
	let begun = begin(wanted, Some(input.as_fd()))?;
	Engine::new(EngineConfig::default()).map_err(Error::other)?;
	begun.finish()
}

fn check(result: impl TryInto<i64>) -> io::Result<()> {
	match result.try_into() {
		Ok(-1) => Err(Error::last_os_error()),
		_ => Ok(()),
	}
}

/// A system call by its number, with arguments that are numbers.
fn call<const N: usize>(number: libc::c_long, arguments: [libc::c_long; N]) -> io::Result<()> {
	let a = |n: usize| arguments.get(n).copied().unwrap_or_default();
	// SAFETY: the tests pass numbers, and addresses of what lives as long as the call.
	check(unsafe { libc::syscall(number, a(0), a(1), a(2), a(3), a(4), a(5)) })
}

/// A page of memory with this protection.
fn page(protection: i32) -> io::Result<*mut libc::c_void> {
	// SAFETY: new memory, of which nobody knows yet.
	let page = unsafe {
		libc::mmap(
			std::ptr::null_mut(),
			4096,
			protection,
			libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
			-1,
			0,
		)
	};
	if page == libc::MAP_FAILED {
		return Err(Error::last_os_error());
	}
	Ok(page)
}

/// Tries one thing. `target` is a path, an address or a process, whichever it is about.
fn attack(door: &str, target: &str) -> io::Result<()> {
	let path = Path::new(target);
	let named = CString::new(target)?;
	let address = |text: &std::ffi::CStr| text.as_ptr() as libc::c_long;
	let pid: libc::c_long = target.parse().unwrap_or_default();
	let mut buffer = [0u8; 256];
	let writable = buffer.as_mut_ptr() as libc::c_long;
	match door {
		// What an engine does, so that it is seen to work.
		"nothing" => Ok(()),
		"a thread" => std::thread::Builder::new()
			.spawn(|| ())?
			.join()
			.map_err(|_| Error::other("panicked")),
		"its own limits" => call(libc::SYS_prlimit64, [0, 7, 0, writable]),
		// Memory.
		"memory" => {
			let mut bytes: Vec<u8> = Vec::new();
			bytes.try_reserve_exact(HUGE).map_err(Error::other)
		}
		"code" => page(libc::PROT_READ | libc::PROT_EXEC).map(|_| ()),
		"data into code" => {
			let page = page(libc::PROT_READ | libc::PROT_WRITE)?;
			// SAFETY: the page is ours.
			check(unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) })
		}
		"code in a file" => call(libc::SYS_memfd_create, [address(c"x"), 0]),
		// Files.
		"read" => fs::read(path).map(|_| ()),
		"list" => fs::read_dir(path).map(|_| ()),
		"path" => fs::OpenOptions::new()
			.read(true)
			.custom_flags(libc::O_PATH)
			.open(path)
			.map(|_| ()),
		"write" => fs::write(path, "x"),
		"append" => fs::OpenOptions::new().append(true).open(path).map(|_| ()),
		"read and write" => fs::OpenOptions::new()
			.read(true)
			.write(true)
			.open(path)
			.map(|_| ()),
		"remove" => fs::remove_file(path),
		"rename" => fs::rename(path, path.with_extension("renamed")),
		"make a folder" => fs::create_dir(path),
		"make a link" => std::os::unix::fs::symlink("/", path),
		"link" => fs::hard_link(path, path.with_extension("linked")),
		"permissions" => {
			fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
		}
		"truncate" => call(libc::SYS_truncate, [address(&named), 0]),
		"chroot" => call(libc::SYS_chroot, [address(&named)]),
		"a device" => call(
			libc::SYS_mknodat,
			[
				libc::c_long::from(libc::AT_FDCWD),
				address(&named),
				0o20666,
				0x103,
			],
		),
		"a file by its handle" => call(libc::SYS_open_by_handle_at, [-100, writable, 0]),
		// The network, and other processes by sockets.
		"tcp" => TcpStream::connect(target).map(|_| ()),
		"udp" => UdpSocket::bind("127.0.0.1:0").map(|_| ()),
		"udp6" => UdpSocket::bind("[::1]:0").map(|_| ()),
		"raw" => call(libc::SYS_socket, [17, 3, 0]),
		"netlink" => call(libc::SYS_socket, [16, 3, 0]),
		"local" => UnixDatagram::unbound().map(|_| ()),
		"local to" => std::os::unix::net::UnixStream::connect(path).map(|_| ()),
		"pair" => std::os::unix::net::UnixStream::pair().map(|_| ()),
		// Other programs and processes.
		"program" => Command::new("/bin/true").status().map(|_| ()),
		"become a program" => {
			let arguments = [c"/bin/true".as_ptr(), std::ptr::null()];
			// SAFETY: a list that ends with a null.
			check(unsafe { libc::execv(arguments[0], arguments.as_ptr()) })
		}
		"fork" => {
			// SAFETY: the child does nothing but end.
			match unsafe { libc::fork() } {
				-1 => Err(Error::last_os_error()),
				0 => unsafe { libc::_exit(0) },
				_ => Ok(()),
			}
		}
		"signal" => call(libc::SYS_kill, [pid, 0]),
		"signal to everybody" => call(libc::SYS_kill, [-1, 0]),
		"signal to a thread" => call(libc::SYS_tgkill, [pid, pid, 0]),
		"queued signal" => call(libc::SYS_rt_sigqueueinfo, [pid, 0, writable]),
		"process handle" => call(libc::SYS_pidfd_open, [pid, 0]),
		"trace" => call(
			libc::SYS_ptrace,
			[libc::c_long::from(libc::PTRACE_ATTACH), pid, 0, 0],
		),
		"memory of another" => {
			let local = libc::iovec {
				iov_base: buffer.as_mut_ptr().cast(),
				iov_len: 8,
			};
			let pointer = &raw const local as libc::c_long;
			call(libc::SYS_process_vm_readv, [pid, pointer, 1, pointer, 1, 0])
		}
		"limits of another" => call(libc::SYS_prlimit64, [pid, 7, 0, writable]),
		"scheduling of another" => call(libc::SYS_sched_setaffinity, [pid, 8, writable]),
		"priority" => call(libc::SYS_setpriority, [0, 0, 5]),
		"policy" => call(libc::SYS_sched_setscheduler, [0, 3, writable]),
		"owner of signals" => {
			// SAFETY: standard error is open.
			check(unsafe { libc::fcntl(2, libc::F_SETOWN, pid as i32) })
		}
		// `F_SETSIG`, which the library of the C interface does not name everywhere.
		"kind of signals" => check(unsafe { libc::fcntl(2, 10, 9) }),
		"signals of a file" => check(unsafe { libc::fcntl(2, libc::F_SETFL, libc::O_ASYNC) }),
		"its limits raised" => {
			// SAFETY: both structures are alive.
			unsafe {
				let mut limit: libc::rlimit = std::mem::zeroed();
				check(libc::getrlimit(libc::RLIMIT_DATA, &mut limit))?;
				limit.rlim_cur = libc::RLIM_INFINITY;
				limit.rlim_max = libc::RLIM_INFINITY;
				check(libc::setrlimit(libc::RLIMIT_DATA, &limit))
			}
		}
		"dumps" => call(
			libc::SYS_prctl,
			[libc::c_long::from(libc::PR_SET_DUMPABLE), 1],
		),
		"another user" => call(libc::SYS_setuid, [0]),
		"capabilities" => call(libc::SYS_capset, [writable, writable]),
		// The kernel.
		"mount" => call(
			libc::SYS_mount,
			[address(c"none"), address(&named), address(c"tmpfs"), 0, 0],
		),
		"unmount" => call(libc::SYS_umount2, [address(&named), 2]),
		"namespace" => call(libc::SYS_unshare, [libc::c_long::from(libc::CLONE_NEWUSER)]),
		"namespace of another" => call(libc::SYS_setns, [0, 0]),
		"clone into a namespace" => {
			let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
			clone(flags)
		}
		"clone3" => call(libc::SYS_clone3, [writable, 64]),
		"bpf" => call(libc::SYS_bpf, [0, writable, 8]),
		"perf" => call(libc::SYS_perf_event_open, [writable, 0, -1, -1, 0]),
		"userfaultfd" => call(libc::SYS_userfaultfd, [1]),
		"io_uring" => call(libc::SYS_io_uring_setup, [1, writable]),
		"keys" => call(libc::SYS_keyctl, [0, -3, 0]),
		"another filter" => call(libc::SYS_seccomp, [1, 0, 0]),
		"personality" => call(libc::SYS_personality, [0x0040_0000]),
		"terminal" => call(libc::SYS_ioctl, [2, 0x5412, writable]),
		"a device's state" => call(libc::SYS_ioctl, [0, 0x541b, writable]),
		"messages of the kernel" => call(libc::SYS_syslog, [3, writable, 8]),
		"clock" => call(libc::SYS_clock_settime, [0, writable]),
		"name of the machine" => call(libc::SYS_sethostname, [address(c"x"), 1]),
		"no such call" => call(100_000, []),
		#[cfg(target_arch = "x86_64")]
		"another interface" => call(0x4000_0000 + libc::SYS_getpid, []),
		other => Err(Error::other(format!("no door is called {other:?}"))),
	}
}

/// A child in namespaces of its own, which ends at once.
fn clone(flags: libc::c_long) -> io::Result<()> {
	// SAFETY: without a stack of its own the child goes on with a copy of this one, and ends.
	match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
		-1 => Err(Error::last_os_error()),
		0 => unsafe { libc::_exit(0) },
		_ => Ok(()),
	}
}
