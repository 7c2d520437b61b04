//! Which files the process sees: Landlock (Linux 5.13), or where the kernel has none, a mount namespace of its own in which
//! nothing else exists.

use std::{
	ffi::{CStr, CString},
	fs, io,
	os::{
		fd::{AsRawFd, OwnedFd},
		unix::ffi::OsStrExt,
	},
	path::{Path, PathBuf},
};

use landlock::{
	Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
	RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, ABI,
};

use super::Isolation;

/// The newest interface of Landlock whose rights this code knows. Older kernels do what they can.
const LANDLOCK: ABI = ABI::V6;

/// What every engine reads beside its models: what the C library's allocator and locales look at, and this process's own state.
/// Where a file of weights is, ONNX Runtime asks its descriptor, by a link in there.
const SYSTEM: &[&str] = &[
	"/dev/null",
	"/dev/urandom",
	"/dev/zero",
	"/proc/cpuinfo",
	"/proc/meminfo",
	"/proc/self/fd",
	"/proc/self/maps",
	"/proc/self/statm",
	"/proc/self/status",
	"/proc/sys/vm/overcommit_memory",
	"/sys/devices/system/cpu",
	"/sys/devices/system/node",
	"/usr/lib/locale",
];

/// What the driver of a GPU and its libraries read.
const DRIVER: &[&str] = &[
	"/etc/ld.so.cache",
	"/etc/nvidia",
	"/lib",
	"/lib64",
	"/nix/store",
	"/opt/cuda",
	"/proc/devices",
	"/proc/driver",
	"/proc/filesystems",
	"/proc/modules",
	"/proc/self",
	"/proc/stat",
	"/proc/sys",
	"/proc/version",
	"/run/nvidia-persistenced",
	"/run/opengl-driver",
	"/sys/bus/pci",
	"/sys/class",
	"/sys/devices",
	"/sys/module",
	"/usr/lib",
	"/usr/lib64",
	"/usr/local/cuda",
	"/usr/local/lib",
	"/usr/local/nvidia",
	"/usr/share/nvidia",
];
/// Its helper, which it runs.
const HELPER: &str = "/usr/bin/nvidia-modprobe";
/// Its devices begin so in `/dev`; shared memory is in there too.
const DEVICES: [&str; 3] = ["nvidia", "dxg", "shm"];

/// Files and folders that the process sees, and what it may do there.
#[derive(Debug, Default)]
struct Seen {
	read: Vec<PathBuf>,
	run: Vec<PathBuf>,
	write: Vec<PathBuf>,
}

impl Seen {
	fn of(wanted: &Isolation, folders: &[PathBuf]) -> Self {
		let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
		let mut seen = Self {
			// By the names under which models are loaded from them.
			read: folders
				.iter()
				.map(|f| fs::canonicalize(f).unwrap_or_else(|_| f.clone()))
				.collect(),
			..Default::default()
		};
		seen.read.extend(paths(SYSTEM));
		if wanted.driver {
			seen.read.extend(paths(DRIVER));
			seen.read.extend(libraries());
			seen.run.push(HELPER.into());
			let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
			seen.write.extend(devices.map(|d| d.path()).filter(|path| {
				let name = path.file_name().unwrap_or_default().to_string_lossy();
				DEVICES.iter().any(|begin| name.starts_with(begin))
			}));
		}
		seen
	}
}

/// Where this process's libraries are: ONNX Runtime's folder, which has NVIDIA's in it, and those that the environment names.
fn libraries() -> Vec<PathBuf> {
	let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
	let mut folders: Vec<PathBuf> = std::env::split_paths(&named)
		.filter(|folder| folder.is_absolute())
		.collect();
	if let Some(library) = crate::library::loaded() {
		let real = fs::canonicalize(library).unwrap_or_else(|_| library.into());
		folders.extend(real.parent().map(Path::to_owned));
	}
	folders
}

/// Hides all files but these folders and what the system needs. Says how, or why that did not work.
pub(super) fn hide(
	wanted: &Isolation,
	folders: &[PathBuf],
	namespaces: bool,
) -> Result<String, String> {
	let seen = Seen::of(wanted, folders);
	let without = match landlock(wanted, &seen) {
		Ok(how) => return Ok(how),
		Err(e) => e,
	};
	if !namespaces {
		return Err(format!("{without}; no mount namespace either"));
	}
	mount_namespace(&seen)
		.map(|()| "a mount namespace of its own".into())
		.map_err(|e| format!("{without}; mount namespace: {e}"))
}

fn landlock(wanted: &Isolation, seen: &Seen) -> Result<String, String> {
	if !wanted.landlock {
		return Err("Landlock: switched off".into());
	}
	let failed = |e: landlock::RulesetError| format!("Landlock: {e}");
	let all = AccessFs::from_all(LANDLOCK);
	let read = AccessFs::ReadFile | AccessFs::ReadDir;
	let ruleset = Ruleset::default()
		.set_compatibility(CompatLevel::BestEffort)
		.handle_access(all)
		// No rule: no connection and no port.
		.and_then(|r| r.handle_access(AccessNet::from_all(ABI::V4)))
		// No signals to others, and no sockets of theirs that have names without files.
		.and_then(|r| r.scope(Scope::from_all(LANDLOCK)))
		.and_then(|r| r.create())
		.map_err(failed)?;
	// What is not there needs no rule.
	let rules = |paths: &[PathBuf], access: BitFlags<AccessFs>| {
		paths
			.iter()
			.filter_map(move |path| {
				let access = if path.is_dir() {
					access
				} else {
					access & AccessFs::from_file(LANDLOCK)
				};
				Some(Ok::<_, landlock::RulesetError>(PathBeneath::new(
					PathFd::new(path).ok()?,
					access,
				)))
			})
			.collect::<Vec<_>>()
	};
	let device = read
		| AccessFs::WriteFile
		| AccessFs::IoctlDev
		| AccessFs::MakeReg
		| AccessFs::RemoveFile
		| AccessFs::Truncate;
	let status = ruleset
		.add_rules(rules(&seen.read, read))
		.and_then(|r| r.add_rules(rules(&seen.run, read | AccessFs::Execute)))
		.and_then(|r| r.add_rules(rules(&seen.write, device)))
		.and_then(|r| r.restrict_self())
		.map_err(failed)?;
	match status.ruleset {
		RulesetStatus::NotEnforced => Err("this kernel has no Landlock".into()),
		RulesetStatus::PartiallyEnforced => Ok("Landlock, an older version".into()),
		RulesetStatus::FullyEnforced => Ok("Landlock".into()),
	}
}

/// What nothing in the new root may be.
const HARDENED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Enters a mount namespace whose root is an empty file system in memory, with nothing in it but these paths, to read.
fn mount_namespace(seen: &Seen) -> io::Result<()> {
	// SAFETY: no table of file descriptors is unshared, which is what can confuse other threads.
	check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
	// Opened here, where mounts are copies of those outside, and before anything is mounted over them; a folder comes before
	// what is in it.
	let read = seen.read.iter().chain(&seen.run).map(|path| (path, true));
	let write = seen.write.iter().map(|path| (path, false));
	let mut paths: Vec<_> = read
		.chain(write)
		.filter_map(|(path, read_only)| Some((path, open(path).ok()?, read_only)))
		.collect();
	paths.sort_by_key(|(path, ..)| *path);
	mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE)?;
	let root = ["/tmp", "/mnt", "/run"]
		.into_iter()
		.find(|folder| Path::new(folder).is_dir())
		.ok_or_else(|| io::Error::other("no folder for a new root"))?;
	mount(
		Some(c"none"),
		&c_string(root.as_ref())?,
		Some(c"tmpfs"),
		HARDENED,
	)?;
	fill(root, &paths).inspect_err(|_| {
		if let Ok(root) = c_string(root.as_ref()) {
			// SAFETY: a string that ends with a zero.
			unsafe { libc::umount2(root.as_ptr(), libc::MNT_DETACH) };
		}
	})
}

/// Makes these paths stand in the empty file system at `root`, and that the root of all files.
fn fill(root: &str, paths: &[(&PathBuf, OwnedFd, bool)]) -> io::Result<()> {
	for (path, file, read_only) in paths {
		let target = Path::new(root).join(path.strip_prefix("/").unwrap_or(path));
		if target.exists() {
			// Within a folder that is there already.
			continue;
		}
		bind(path, file, &target, *read_only)
			.map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
	}
	let target = c_string(root.as_ref())?;
	let read_only = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | HARDENED;
	mount(None, &target, None, read_only)?;
	std::env::set_current_dir(root)?;
	// The old root comes to lie on the new one, and is taken away.
	// SAFETY: both are strings that end with a zero.
	check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) } as i32)?;
	// SAFETY: as above.
	check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
	std::env::set_current_dir("/")
}

/// Has a path stand at `target`, too.
fn bind(path: &Path, file: &OwnedFd, target: &Path, read_only: bool) -> io::Result<()> {
	if let Some(parent) = target.parent() {
		fs::create_dir_all(parent)?;
	}
	if fs::metadata(magic(file))?.is_dir() {
		fs::create_dir_all(target)?;
	} else {
		fs::File::create(target)?;
	}
	let to = c_string(target)?;
	let from = c_string(magic(file).as_ref())?;
	mount(Some(&from), &to, None, libc::MS_BIND | libc::MS_REC)?;
	if !read_only {
		return Ok(());
	}
	// What the mount was before must stay, or a namespace of users may not change it.
	// SAFETY: the structure is written by the call, and read only where that worked.
	let flags = unsafe {
		let mut about: libc::statvfs = std::mem::zeroed();
		check(libc::statvfs(to.as_ptr(), &mut about))?;
		about.f_flag
	};
	let kept = [
		(libc::ST_NOSUID, libc::MS_NOSUID),
		(libc::ST_NODEV, libc::MS_NODEV),
		(libc::ST_NOEXEC, libc::MS_NOEXEC),
		(libc::ST_NOATIME, libc::MS_NOATIME),
		(libc::ST_NODIRATIME, libc::MS_NODIRATIME),
		(libc::ST_RELATIME, libc::MS_RELATIME),
	];
	let kept = kept
		.into_iter()
		.filter(|(had, _)| flags & had != 0)
		.fold(0, |sum, (_, flag)| sum | flag);
	let read_only = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | kept;
	mount(None, &to, None, read_only)
		.map_err(|e| io::Error::other(format!("{}, to read only: {e}", path.display())))
}

/// A name for an open file that stays its name whatever is mounted where it was.
fn magic(file: &OwnedFd) -> String {
	format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn open(path: &Path) -> io::Result<OwnedFd> {
	use std::os::unix::fs::OpenOptionsExt;
	let mut options = fs::OpenOptions::new();
	let file = options.read(true).custom_flags(libc::O_PATH).open(path)?;
	Ok(file.into())
}

fn mount(
	from: Option<&CStr>,
	to: &CStr,
	kind: Option<&CStr>,
	flags: libc::c_ulong,
) -> io::Result<()> {
	let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
	// SAFETY: strings that end with a zero, or null where the call takes none.
	check(unsafe {
		libc::mount(
			pointer(from),
			to.as_ptr(),
			pointer(kind),
			flags,
			std::ptr::null(),
		)
	})
}

fn c_string(path: &Path) -> io::Result<CString> {
	CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: libc::c_int) -> io::Result<()> {
	if result == 0 {
		Ok(())
	} else {
		Err(io::Error::last_os_error())
	}
}
