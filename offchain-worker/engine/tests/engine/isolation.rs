//! What an isolated process may do, tried in such a process.

use std::{collections::HashMap, net::TcpListener, process::Command};

const MEMORY: &str = "memory=1073741824";

/// What the probe says under each name; names may come more than once.
fn probe(options: &[&str]) -> HashMap<String, Vec<String>> {
	// Somebody to talk to, so that what fails is not the other side.
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let address = listener.local_addr().unwrap().to_string();
	let output = Command::new(env!("CARGO_BIN_EXE_engine-process"))
		.args(["probe", &address])
		.args(options)
		.output()
		.unwrap();
	assert!(output.status.success(), "{output:?}");
	let mut said: HashMap<String, Vec<String>> = HashMap::new();
	for line in String::from_utf8(output.stdout).unwrap().lines() {
		let (name, what) = line.split_once(": ").unwrap();
		said.entry(name.into()).or_default().push(what.into());
	}
	said
}

fn one<'s>(said: &'s HashMap<String, Vec<String>>, name: &str) -> &'s str {
	&said[name][0]
}

#[test]
fn without_isolation_everything_is_allowed() {
	// Otherwise the tests below could not fail.
	let said = probe(&["isolation=no"]);
	for what in ["tcp", "udp", "local", "program", "memory", "a thread"] {
		assert_eq!(one(&said, what), "done", "{what}");
	}
}

#[test]
fn an_isolated_process_has_no_network_and_no_more_memory_than_it_may() {
	let said = probe(&[MEMORY]);
	assert!(
		said["in force"]
			.iter()
			.any(|l| l == "memory limit of 1024 MiB"),
		"{said:?}"
	);
	for what in ["tcp", "udp", "udp6", "local", "program"] {
		assert!(
			one(&said, what).contains("not permitted"),
			"{what}: {said:?}"
		);
	}
	assert_ne!(one(&said, "memory"), "done");
	assert_eq!(one(&said, "a thread"), "done");
	// The namespace is in force unless it says why not.
	let own = std::fs::read_link("/proc/self/ns/net").unwrap();
	let named = |list: &str| {
		let lines = said.get(list);
		lines.is_some_and(|l| l.iter().any(|l| l.starts_with("network namespace")))
	};
	assert_eq!(
		one(&said, "namespace") != own.to_str().unwrap(),
		named("in force")
	);
	assert_ne!(named("in force"), named("missing"));
}

#[test]
fn where_there_are_no_namespaces_the_filter_closes_the_network() {
	let said = probe(&[MEMORY, "namespaces=no"]);
	assert!(
		said["missing"]
			.iter()
			.any(|l| l.starts_with("network namespace") && l.contains("switched off")),
		"{said:?}"
	);
	assert!(one(&said, "tcp").contains("not permitted"), "{said:?}");
}

#[test]
fn a_driver_gets_local_sockets_and_its_helper_but_no_network() {
	let said = probe(&[MEMORY, "driver=yes", "namespaces=no"]);
	for what in ["tcp", "udp", "udp6"] {
		assert!(
			one(&said, what).contains("not permitted"),
			"{what}: {said:?}"
		);
	}
	for what in ["local", "program"] {
		assert_eq!(one(&said, what), "done", "{what}");
	}
}
