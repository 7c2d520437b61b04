//! What a process like the engine's may still do once a model has broken it: each door is tried in such a process, with all that
//! isolates it, and with parts of that left out, as on kernels that lack them.

use std::{
	fs,
	io::{BufRead, BufReader, Read},
	net::TcpListener,
	os::{
		fd::OwnedFd,
		unix::{
			net::{UnixListener, UnixStream},
			process::ExitStatusExt,
		},
	},
	path::Path,
	process::{Child, Command, ExitStatus, Stdio},
};

use consilience_engine::isolation;

const MEMORY: &str = "memory=1073741824";
/// `SIGSYS`: the kernel ended the process for its system call.
const BAD_CALL: i32 = 31;

/// What came of trying a door.
#[derive(Debug, PartialEq)]
enum Outcome {
	Done,
	Refused(String),
	Ended(i32),
}

impl Outcome {
	fn is_shut(&self) -> bool {
		matches!(self, Self::Refused(_)) || *self == Self::Ended(BAD_CALL)
	}
}

fn process(arguments: &[&str]) -> std::process::Output {
	let mut command = Command::new(env!("CARGO_BIN_EXE_engine-process"));
	command.args(arguments);
	isolation::command(&mut command);
	let (_ours, theirs) = UnixStream::pair().unwrap();
	command.stdin(OwnedFd::from(theirs));
	command.output().unwrap()
}

/// A broken engine that never ends by itself; its number; and the node's end of its connection.
fn lingering() -> (Child, u32, UnixStream) {
	let mut command = Command::new(env!("CARGO_BIN_EXE_engine-process"));
	command.args(["linger", MEMORY]);
	isolation::command(&mut command);
	let (ours, theirs) = UnixStream::pair().unwrap();
	command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped());
	let mut child = command.spawn().unwrap();
	let mut line = String::new();
	let output = child.stdout.as_mut().unwrap();
	BufReader::new(output).read_line(&mut line).unwrap();
	(child, line.trim().parse().unwrap(), ours)
}

/// Returns when nobody holds a child's output any more: when the engine behind the guard has ended, too.
fn ended(mut child: Child) -> ExitStatus {
	let mut rest = String::new();
	let output = child.stdout.as_mut().unwrap();
	output.read_to_string(&mut rest).unwrap();
	child.wait().unwrap()
}

/// Something for an attacker to find: a node with its keys, a store of models, and somebody to talk to.
struct Node {
	folder: tempfile::TempDir,
	listener: TcpListener,
	_local: UnixListener,
}

impl Node {
	fn new() -> Self {
		let folder = tempfile::tempdir().unwrap();
		for (name, text) in [
			("keystore/babe", "key"),
			("network/secret", "key"),
			("inference/journal.redb", "journal"),
			("consilience", "program"),
			("models/model/model.onnx", "graph"),
		] {
			let path = folder.path().join(name);
			fs::create_dir_all(path.parent().unwrap()).unwrap();
			fs::write(path, text).unwrap();
		}
		let listener = TcpListener::bind("127.0.0.1:0").unwrap();
		let local = UnixListener::bind(folder.path().join("socket")).unwrap();
		Self {
			folder,
			listener,
			_local: local,
		}
	}

	fn path(&self, name: &str) -> String {
		self.folder.path().join(name).display().to_string()
	}

	fn attack(&self, door: &str, target: &str, left_out: &str) -> Outcome {
		let models = format!("models={}", self.path("models"));
		let left_out = format!("left-out={left_out}");
		let output = process(&["attack", door, target, &models, &left_out, MEMORY]);
		let said = String::from_utf8(output.stdout).unwrap();
		match output.status.signal() {
			Some(signal) => Outcome::Ended(signal),
			None => {
				assert!(output.status.success(), "{door}: {:?}", output.stderr);
				assert!(!said.contains("no door is called"), "{said}");
				match said.trim() {
					"done" => Outcome::Done,
					why => Outcome::Refused(why.into()),
				}
			}
		}
	}

	/// Doors on files, and on which.
	fn doors_on_files(&self) -> Vec<(&'static str, String)> {
		let own = std::process::id();
		let mut doors: Vec<_> = [
			"keystore/babe",
			"network/secret",
			"inference/journal.redb",
			"consilience",
		]
		.map(|file| ("read", self.path(file)))
		.into();
		doors.extend([
			("read", "/etc/passwd".into()),
			("read", format!("/proc/{own}/environ")),
			("read", format!("/proc/{own}/cmdline")),
			("read", "/proc/self/environ".into()),
			("read", "/proc/self/mem".into()),
			("read and write", format!("/proc/{own}/mem")),
			("read", env!("CARGO_BIN_EXE_engine-process").into()),
			("list", self.path("keystore")),
			("list", "/".into()),
			("list", "/proc".into()),
			("append", self.path("consilience")),
			("read and write", self.path("keystore/babe")),
			("write", self.path("keystore/new")),
			("write", self.path("models/new")),
			("write", self.path("models/model/model.onnx")),
			("append", self.path("models/model/model.onnx")),
			("write", "/tmp/consilience-of-an-attacker".into()),
			("write", "/dev/shm/consilience-of-an-attacker".into()),
			("remove", self.path("models/model/model.onnx")),
			("rename", self.path("models/model/model.onnx")),
			("make a folder", self.path("models/folder")),
			("make a link", self.path("models/link")),
			("link", self.path("models/model/model.onnx")),
			("permissions", self.path("keystore/babe")),
			("truncate", self.path("consilience")),
		]);
		doors
	}

	/// Whether nothing of the node has changed.
	fn assert_untouched(&self) {
		let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
		assert_eq!(read("keystore/babe"), "key");
		assert_eq!(read("consilience"), "program");
		assert_eq!(read("models/model/model.onnx"), "graph");
		let models = fs::read_dir(self.folder.path().join("models")).unwrap();
		assert_eq!(models.count(), 1);
		assert!(!Path::new("/tmp/consilience-of-an-attacker").exists());
	}
}

/// Whether this kernel lets a process have namespaces of its own.
fn namespaces() -> bool {
	held(&["report", MEMORY], "Namespaces")
}

/// Whether a report says that this is in force.
fn held(arguments: &[&str], measure: &str) -> bool {
	report(arguments)
		.iter()
		.any(|line| line.starts_with(&format!("{measure}: in force")))
}

fn report(arguments: &[&str]) -> Vec<String> {
	let output = process(arguments);
	assert!(output.status.success(), "{output:?}");
	let text = String::from_utf8(output.stdout).unwrap();
	text.lines().map(str::to_owned).collect()
}

#[test]
fn the_doors_are_open_where_nothing_is_isolated() {
	// Otherwise the tests below could not fail.
	let node = Node::new();
	let address = node.listener.local_addr().unwrap().to_string();
	let own = std::process::id().to_string();
	for (door, target) in [
		("nothing", ""),
		("memory", ""),
		("code", ""),
		("data into code", ""),
		("code in a file", ""),
		("read", &node.path("keystore/babe")),
		("list", &node.path("keystore")),
		("append", &node.path("consilience")),
		("write", &node.path("models/new")),
		("remove", &node.path("models/new")),
		("tcp", &address),
		("udp", ""),
		("local", ""),
		("local to", &node.path("socket")),
		("pair", ""),
		("program", ""),
		("fork", ""),
		("signal", &own),
		("process handle", &own),
		("read", &format!("/proc/{own}/environ")),
		("limits of another", &own),
		("priority", ""),
		("signals of a file", ""),
		("a device's state", ""),
	] {
		let outcome = node.attack(door, target, "all");
		assert_eq!(outcome, Outcome::Done, "{door} {target}");
	}
}

#[test]
fn an_engine_does_what_it_has_to() {
	let node = Node::new();
	for (door, target) in [
		("nothing", String::new()),
		("a thread", String::new()),
		("its own limits", String::new()),
		("read", node.path("models/model/model.onnx")),
		("list", node.path("models")),
		("read", "/proc/self/status".into()),
		("read", "/proc/sys/vm/overcommit_memory".into()),
	] {
		for left_out in ["", "landlock", "namespaces", "namespaces,landlock"] {
			let outcome = node.attack(door, &target, left_out);
			assert_eq!(
				outcome,
				Outcome::Done,
				"{door} {target}, without {left_out}"
			);
		}
	}
	// What comes later is seen as well.
	fs::write(node.path("models/later"), "x").unwrap();
	assert_eq!(
		node.attack("read", &node.path("models/later"), ""),
		Outcome::Done
	);
}

#[test]
fn no_file_but_the_models_can_be_read_and_none_written() {
	let node = Node::new();
	// Each way of hiding files by itself: nothing stands behind it.
	for left_out in ["", "calls", "landlock", "landlock,calls"] {
		let said = report(&["report", MEMORY, &format!("left-out={left_out}")]);
		let files = said.iter().find(|line| line.starts_with("Files: "));
		let files = files.expect("the report says whether files are hidden");
		if !files.starts_with("Files: in force") {
			assert!(
				!namespaces() || files.contains("mount namespace: "),
				"a mount namespace at least, where there are namespaces: {files}"
			);
			eprintln!("doors on files cannot be closed here, without {left_out:?}: {files}");
			continue;
		}
		let mounted = files.contains("mount namespace");
		for (door, target) in node.doors_on_files() {
			// Landlock knows no permissions, and both let a process see itself: the list is there for the one, and the other
			// is the process's own.
			let mut beyond = door == "permissions" && left_out == "calls";
			// Where nothing else exists there is still a root, with what may be seen.
			beyond |= mounted && ["/", "/proc"].contains(&&target[..]);
			if beyond || left_out.contains("calls") && target.starts_with("/proc/self") {
				continue;
			}
			let outcome = node.attack(door, &target, left_out);
			assert!(
				outcome.is_shut(),
				"{door} {target}, without {left_out:?}: {outcome:?}"
			);
		}
		node.assert_untouched();
	}
	// Where nothing hides files, none is written all the same.
	for (door, target) in node.doors_on_files() {
		if matches!(door, "read" | "list") {
			continue;
		}
		let outcome = node.attack(door, &target, "landlock,namespaces");
		assert!(outcome.is_shut(), "{door} {target}: {outcome:?}");
	}
	node.assert_untouched();
}

/// Everything else that an engine does not do: a door, its target, and whether the kernel ends whoever tries it.
fn doors(node: &Node) -> Vec<(&'static str, String, bool)> {
	let address = node.listener.local_addr().unwrap().to_string();
	let own = std::process::id().to_string();
	let here = node.path("models");
	let none = String::new();
	vec![
		("memory", none.clone(), false),
		("code", none.clone(), false),
		("data into code", none.clone(), false),
		("code in a file", none.clone(), false),
		("path", node.path("keystore/babe"), false),
		("chroot", here.clone(), true),
		("a device", node.path("models/null"), true),
		("a file by its handle", none.clone(), true),
		("tcp", address, false),
		("udp", none.clone(), false),
		("udp6", none.clone(), false),
		("raw", none.clone(), false),
		("netlink", none.clone(), false),
		("local", none.clone(), false),
		("local to", node.path("socket"), false),
		("pair", none.clone(), false),
		("program", none.clone(), false),
		("become a program", none.clone(), false),
		("fork", none.clone(), false),
		("signal", own.clone(), false),
		("signal to everybody", none.clone(), false),
		("signal to a thread", own.clone(), false),
		("queued signal", own.clone(), true),
		("process handle", own.clone(), true),
		("trace", own.clone(), true),
		("memory of another", own.clone(), true),
		("limits of another", own.clone(), false),
		("scheduling of another", own.clone(), false),
		("priority", none.clone(), false),
		("policy", none.clone(), false),
		("owner of signals", own, false),
		("kind of signals", none.clone(), false),
		("signals of a file", none.clone(), false),
		("its limits raised", none.clone(), false),
		("dumps", none.clone(), false),
		("another user", none.clone(), true),
		("capabilities", none.clone(), true),
		("mount", here.clone(), true),
		("unmount", here, true),
		("namespace", none.clone(), true),
		("namespace of another", none.clone(), true),
		("clone into a namespace", none.clone(), false),
		("clone3", none.clone(), false),
		("bpf", none.clone(), true),
		("perf", none.clone(), true),
		("userfaultfd", none.clone(), true),
		("io_uring", none.clone(), true),
		("keys", none.clone(), true),
		("another filter", none.clone(), true),
		("personality", none.clone(), true),
		("terminal", none.clone(), false),
		("a device's state", none.clone(), false),
		("messages of the kernel", none.clone(), true),
		("clock", none.clone(), true),
		("name of the machine", none.clone(), true),
		("no such call", none.clone(), true),
		#[cfg(target_arch = "x86_64")]
		("another interface", none, true),
	]
}

#[test]
fn what_is_in_no_list_ends_the_process_and_what_libraries_try_is_refused() {
	let node = Node::new();
	let mut wrong = Vec::new();
	// As on a kernel without namespaces and Landlock: the list alone.
	for left_out in ["", "namespaces,landlock"] {
		for (door, target, ends) in doors(&node) {
			let outcome = node.attack(door, &target, left_out);
			let expected = match &outcome {
				Outcome::Ended(signal) => ends && *signal == BAD_CALL,
				Outcome::Refused(_) => !ends,
				Outcome::Done => false,
			};
			if !expected {
				wrong.push(format!(
					"{door} {target}, without {left_out:?}: {outcome:?}"
				));
			}
		}
	}
	assert!(wrong.is_empty(), "{}", wrong.join("\n"));
	node.assert_untouched();
}

#[test]
fn other_processes_and_the_network_are_not_there_without_the_list() {
	if !namespaces() {
		eprintln!("there are no namespaces here: the list alone closes these doors");
		return;
	}
	let node = Node::new();
	let address = node.listener.local_addr().unwrap().to_string();
	let own = std::process::id().to_string();
	for (door, target) in [
		("tcp", &address),
		("signal", &own),
		("process handle", &own),
		("trace", &own),
		("limits of another", &own),
		("mount", &node.path("models")),
		("its limits raised", &String::new()),
	] {
		let outcome = node.attack(door, target, "calls");
		assert!(outcome.is_shut(), "{door} {target}: {outcome:?}");
	}
}

#[test]
fn a_driver_gets_local_sockets_and_devices_but_no_network_and_no_namespaces() {
	let node = Node::new();
	let address = node.listener.local_addr().unwrap().to_string();
	let own = std::process::id().to_string();
	let models = format!("models={}", node.path("models"));
	for left_out in [
		"left-out=",
		"left-out=landlock",
		"left-out=namespaces,landlock",
	] {
		let attack = |door: &str, target: &str| {
			let output = process(&[
				"attack",
				door,
				target,
				&models,
				left_out,
				MEMORY,
				"driver=yes",
			]);
			assert!(output.status.success(), "{door}: {output:?}");
			String::from_utf8(output.stdout).unwrap().trim().to_owned()
		};
		for door in [
			"local",
			"pair",
			"code",
			"code in a file",
			"fork",
			"a device's state",
		] {
			assert_eq!(attack(door, ""), "done", "{door}, {left_out}");
		}
		let typed = attack("terminal", "");
		assert!(typed.contains("not permitted"), "{typed}, {left_out}");
		for (door, target) in [
			("tcp", &address[..]),
			("udp", ""),
			("raw", ""),
			("signal", &own),
			("trace", &own),
			("namespace", ""),
			("clone into a namespace", ""),
			("mount", &node.path("models")),
			("bpf", ""),
			("limits of another", &own),
		] {
			assert_ne!(attack(door, target), "done", "{door}, {left_out}");
		}
		let hidden = held(&["report", MEMORY, left_out, "driver=yes"], "Files");
		if hidden {
			let key = node.path("keystore/babe");
			for door in ["read", "read and write"] {
				assert_ne!(attack(door, &key), "done", "{door}");
			}
			assert_ne!(attack("write", &node.path("models/new")), "done");
		}
	}
	node.assert_untouched();
}

#[test]
fn a_tool_writes_files_and_has_no_network_and_no_programs() {
	let node = Node::new();
	let address = node.listener.local_addr().unwrap().to_string();
	let own = std::process::id().to_string();
	let attack = |door: &str, target: &str| {
		let output = process(&["attack", door, target, MEMORY, "tool=yes"]);
		assert!(output.status.success(), "{door}: {output:?}");
		String::from_utf8(output.stdout).unwrap().trim().to_owned()
	};
	for (door, target) in [
		("read", node.path("models/model/model.onnx")),
		("write", node.path("models/new")),
		("link", node.path("models/new")),
		("rename", node.path("models/new")),
		("make a folder", node.path("models/folder")),
		("permissions", node.path("models/folder")),
		("a thread", String::new()),
		("code", String::new()),
		("a device's state", String::new()),
	] {
		assert_eq!(attack(door, &target), "done", "{door}");
	}
	// It may have a terminal, whose person's words a model is not to type.
	let typed = attack("terminal", "");
	assert!(typed.contains("not permitted"), "{typed}");
	for (door, target) in [
		("memory", ""),
		("tcp", &address[..]),
		("udp", ""),
		("local", ""),
		("program", ""),
		("fork", ""),
		("signal", &own),
		("trace", &own),
		("limits of another", &own),
		("namespace", ""),
		("mount", &node.path("models")),
		("its limits raised", ""),
	] {
		assert_ne!(attack(door, target), "done", "{door}");
	}
}

#[test]
fn a_broken_engine_ends_with_its_node_and_with_its_guard() {
	let (child, engine, ours) = lingering();
	assert!(Path::new(&format!("/proc/{engine}")).exists());
	assert_ne!(engine, child.id());
	drop(ours);
	assert_eq!(ended(child).signal(), Some(libc::SIGKILL));

	let (mut child, _, _ours) = lingering();
	child.kill().unwrap();
	assert_eq!(ended(child).signal(), Some(libc::SIGKILL));

	// What ends the engine is what its guard ends with.
	let (child, engine, _ours) = lingering();
	// SAFETY: a signal to a process of ours.
	unsafe { libc::kill(engine as i32, libc::SIGKILL) };
	assert_eq!(ended(child).signal(), Some(libc::SIGKILL));
}

#[test]
fn the_report_says_what_is_in_force_and_what_is_missing() {
	let said = report(&["report", MEMORY]);
	for always in [
		"Ends",
		"Environment",
		"Descriptors",
		"Privileges",
		"CoreDumps",
		"Calls",
	] {
		let line = format!("{always}: in force");
		assert!(
			said.iter().any(|l| l.starts_with(&line)),
			"{line} of {said:?}"
		);
	}
	assert!(
		said.contains(&"Memory: in force (1024 MiB)".into()),
		"{said:?}"
	);
	let said = report(&["report", MEMORY, "left-out=namespaces,landlock,calls"]);
	for missing in ["Namespaces", "Files", "Calls"] {
		let line = format!("{missing}: missing");
		let found = said.iter().find(|l| l.starts_with(&line));
		assert!(
			found.is_some_and(|l| l.contains("switched off")),
			"{line} of {said:?}"
		);
	}
	// Something of the node's environment that got there.
	let output = Command::new(env!("CARGO_BIN_EXE_engine-process"))
		.args(["report", MEMORY])
		.env("SECRET", "key")
		.output()
		.unwrap();
	let text = String::from_utf8(output.stdout).unwrap();
	assert!(text.contains("Environment: missing"), "{text}");
}

#[test]
fn a_process_is_born_with_nothing_of_its_parent() {
	let mut command = Command::new("/usr/bin/env");
	command.env("SECRET", "key");
	isolation::command(&mut command);
	let output = command.output().unwrap();
	let text = String::from_utf8(output.stdout).unwrap();
	assert!(!text.contains("SECRET"), "{text}");
	assert!(
		!text.contains("PATH=") || text.contains("ORT_DYLIB_PATH="),
		"{text}"
	);
	assert!(text.contains("ORT_DISABLE_TELEMETRY=1"), "{text}");
	// A file that does not close itself, which nobody of ours opens and a library might.
	let file = fs::File::open("/dev/null").unwrap();
	// SAFETY: an open file; a copy of it without the flag.
	let copy = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_DUPFD, 100) };
	assert!(copy >= 100);
	let mut command = Command::new("/bin/ls");
	command.arg("/proc/self/fd");
	isolation::command(&mut command);
	let output = command.output().unwrap();
	let text = String::from_utf8(output.stdout).unwrap();
	assert!(!text.contains(&copy.to_string()), "{text}");
	// SAFETY: the copy is ours.
	unsafe { libc::close(copy) };
}
