//! The engine's process for the tests of this crate, and a probe of what such a process may do.
//!
//! ```text
//! engine-process serve SOCKET [memory=BYTES] [load=MILLISECONDS] [run=MILLISECONDS] [grace=MILLISECONDS]
//! engine-process probe ADDRESS [memory=BYTES] [namespaces=no] [driver=yes] [isolation=no]
//! ```

use std::{
	collections::HashMap,
	io,
	net::{TcpStream, UdpSocket},
	os::unix::net::UnixDatagram,
	path::Path,
	process::{Command, ExitCode},
	time::Duration,
};

use consilience_engine::{
	isolation::{isolate, Isolation},
	server::{serve, ServerConfig, TimeLimits},
};

/// More than any machine of ours has to give.
const HUGE: usize = 1 << 32;

fn main() -> ExitCode {
	let mut arguments = std::env::args().skip(1);
	let (Some(what), Some(target)) = (arguments.next(), arguments.next()) else {
		eprintln!("serve SOCKET or probe ADDRESS");
		return ExitCode::FAILURE;
	};
	let options: HashMap<String, String> = arguments
		.filter_map(|a| a.split_once('=').map(|(k, v)| (k.into(), v.into())))
		.collect();
	let result = match what.as_str() {
		"serve" => serve(Path::new(&target), server(&options)),
		"probe" => probe(&target, &options),
		other => Err(io::Error::other(format!("{other:?} is no command"))),
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

fn server(options: &HashMap<String, String>) -> ServerConfig {
	let default = TimeLimits::default();
	let time = |key, default| number(options, key).map_or(default, Duration::from_millis);
	let mut config = ServerConfig {
		memory_limit: number(options, "memory"),
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

/// Isolates this process and prints, a line each, what is in force and what came of trying.
fn probe(address: &str, options: &HashMap<String, String>) -> io::Result<()> {
	let said = |key: &str, value: &str| options.get(key).is_some_and(|v| v == value);
	if !said("isolation", "no") {
		let report = isolate(&Isolation {
			memory_limit: number(options, "memory"),
			namespaces: !said("namespaces", "no"),
			capabilities: false,
			driver: said("driver", "yes"),
		})?;
		report
			.in_force
			.iter()
			.for_each(|l| println!("in force: {l}"));
		report.missing.iter().for_each(|l| println!("missing: {l}"));
	}
	let own = std::fs::read_link("/proc/self/ns/net")?;
	println!("namespace: {}", own.display());
	let show = |what: &str, result: io::Result<()>| match result {
		Ok(()) => println!("{what}: done"),
		Err(e) => println!("{what}: {e}"),
	};
	show("tcp", TcpStream::connect(address).map(|_| ()));
	show("udp", UdpSocket::bind("127.0.0.1:0").map(|_| ()));
	show("udp6", UdpSocket::bind("[::1]:0").map(|_| ()));
	show("local", UnixDatagram::unbound().map(|_| ()));
	show("program", Command::new("/bin/true").status().map(|_| ()));
	let mut bytes: Vec<u8> = Vec::new();
	let allocated = bytes.try_reserve_exact(HUGE).map_err(io::Error::other);
	show("memory", allocated);
	show(
		"a thread",
		std::thread::Builder::new()
			.spawn(|| ())?
			.join()
			.map_err(|_| io::Error::other("panicked")),
	);
	Ok(())
}
