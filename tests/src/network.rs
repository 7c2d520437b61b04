//! Networks of validators: the four of the `local` chain, or more.

use std::{
	path::{Path, PathBuf},
	process::Stdio,
	sync::{Arc, Mutex},
};

use codec::Decode;
use consilience_primitives::{session::LaneView, ModelId};
use consilience_rpc::{InferenceRpcClient, ModelsRpcClient};
use consilience_runtime::AccountId;
use futures::future::join_all;
use jsonrpsee::rpc_params;
use polkadot_sdk::sp_core::Bytes;
use tokio::{
	io::{AsyncBufReadExt, BufReader},
	process::{Child, Command},
	sync::watch,
};

use crate::{
	binary, cli,
	fixture::{raw, room_for, seven_validators},
	lines::Lines,
	within, Client,
};

/// The validators of the `local` chain, in the order of their session indices at genesis.
pub const NAMES: [&str; 4] = ["alice", "bob", "charlie", "dave"];

/// More validators than the `local` chain has, in the same order.
pub const SEVEN: [&str; 7] = ["alice", "bob", "charlie", "dave", "eve", "ferdie", "one"];

/// How a node is started, beside what all nodes have.
#[derive(Clone, Debug)]
pub struct Options {
	/// The program.
	pub program: PathBuf,
	/// More arguments.
	pub arguments: Vec<String>,
	/// More of its environment.
	pub variables: Vec<(String, String)>,
	/// Where it gives its metrics, if it does.
	pub metrics: Option<std::net::SocketAddr>,
}

impl Default for Options {
	fn default() -> Self {
		Self {
			program: binary(),
			arguments: Vec::new(),
			variables: Vec::new(),
			metrics: None,
		}
	}
}

impl Options {
	/// With an endpoint of the session lane.
	pub fn listening() -> Self {
		Self {
			arguments: vec!["--session-listen".into(), free_address().to_string()],
			..Default::default()
		}
	}
}

/// An address of this machine on which nothing listens at the moment.
pub fn free_address() -> std::net::SocketAddr {
	let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
	taken.local_addr().expect("it is bound")
}

/// A running node. It is killed when it is dropped, and its engine ends with it.
pub struct Node {
	/// One of [`NAMES`] or [`SEVEN`], or that of a developer's chain.
	pub name: &'static str,
	/// Address of its RPC.
	pub url: String,
	/// A connection to it.
	pub client: Client,
	/// Its base path.
	pub base: PathBuf,
	child: Child,
	log: Arc<Mutex<Vec<String>>>,
	lines: watch::Receiver<usize>,
}

impl Node {
	/// Starts a node and waits until it listens. `chain` is a chain's name or its file.
	pub async fn start(
		name: &'static str,
		base: PathBuf,
		chain: &str,
		bootnode: Option<&str>,
		options: &Options,
	) -> Self {
		let own = format!("--{name}");
		let mut place = vec!["--chain", chain, &own];
		place.extend(bootnodes(bootnode));
		Self::start_at(name, base, &place, options).await
	}

	/// Starts a developer's chain and waits until it listens.
	pub async fn dev(base: PathBuf) -> Self {
		Self::start_at("dev", base, &["--dev"], &Options::default()).await
	}

	async fn start_at(
		name: &'static str,
		base: PathBuf,
		place: &[&str],
		options: &Options,
	) -> Self {
		let mut command = Command::new(&options.program);
		command
			.arg("--base-path")
			.arg(&base)
			.args(place)
			.args(["--rpc-port", "0"])
			.args([
				"--listen-addr",
				"/ip4/127.0.0.1/tcp/0",
				"--rpc-methods",
				"unsafe",
			])
			.args(["--no-telemetry", "--no-mdns"])
			// All nodes run the same runtime: the first that ever started compiled it.
			.arg("--runtime-cache")
			.arg(options.program.with_file_name(""))
			.args(&options.arguments)
			.envs(options.variables.iter().map(|(k, v)| (k, v)))
			.stdin(Stdio::null())
			.stdout(Stdio::null())
			.stderr(Stdio::piped())
			.kill_on_drop(true);
		match options.metrics {
			Some(at) => command.args(["--prometheus-port", &at.port().to_string()]),
			None => command.arg("--no-prometheus"),
		};
		if !place.contains(&"--validator") {
			command.arg("--unsafe-force-node-key-generation");
		}
		let mut child = command.spawn().expect("the binary runs");
		let stderr = child.stderr.take().expect("standard error is a pipe; qed");
		let log: Arc<Mutex<Vec<String>>> = Arc::default();
		let (grown, lines) = watch::channel(0);
		let writer = log.clone();
		tokio::spawn(async move {
			let mut reader = BufReader::new(stderr).lines();
			while let Ok(Some(line)) = reader.next_line().await {
				let mut log = writer.lock().unwrap_or_else(|e| e.into_inner());
				// Shown by the test runner when the test fails.
				println!("{name}: {line}");
				log.push(line);
				let _ = grown.send(log.len());
			}
		});
		let mut node_lines = lines.clone();
		let address = find_line(&log, &mut node_lines, &format!("{name} listens"), |line| {
			let rest = line.split("JSON-RPC server: addr=").nth(1)?;
			rest.split([',', ' '])
				.find(|a| a.starts_with("127.0.0.1:"))
				.map(str::to_owned)
		})
		.await;
		let url = format!("ws://{address}");
		let client = Client::connect(&url).await;
		Self {
			name,
			url,
			client,
			base,
			child,
			log,
			lines,
		}
	}

	/// The account of the node's validator.
	pub async fn account(&self) -> AccountId {
		let engine = self.client.rpc.engine().await;
		let engine = engine.expect("the node runs a worker");
		engine.validator.expect("the validator is in the session")
	}

	/// Lines of the node's log so far that contain `part`.
	pub fn lines(&self, part: &str) -> Vec<String> {
		let log = self.log.lock().unwrap_or_else(|e| e.into_inner());
		log.iter().filter(|l| l.contains(part)).cloned().collect()
	}

	/// Waits for a line of the node's log that contains `part`, also one that was written already.
	pub async fn await_line(&self, part: &str) -> String {
		let what = format!("{} says {part:?}", self.name);
		find_line(&self.log, &mut self.lines.clone(), &what, |line| {
			line.contains(part).then(|| line.to_owned())
		})
		.await
	}

	/// Waits until the model is on the node's chain, with a number of validators that serve it for which this holds.
	pub async fn await_serving(&self, model: ModelId, enough: impl Fn(usize) -> bool) {
		let mut heads = self.client.heads(false).await;
		within("all serve the model", async {
			loop {
				heads
					.next()
					.await
					.expect("the node goes on")
					.expect("a header");
				let view = self
					.client
					.rpc
					.get(model, None)
					.await
					.expect("the node answers");
				if view.is_some_and(|m| enough(m.serving.len())) {
					return;
				}
			}
		})
		.await;
	}

	/// Waits until so many validators that serve the model take requests of the session lane, in finalised state.
	pub async fn await_lanes(&self, model: ModelId, count: usize) {
		let mut heads = self.client.heads(true).await;
		within("all certify their lane keys", async {
			loop {
				let head = heads
					.next()
					.await
					.expect("the node goes on")
					.expect("a header");
				let arguments = rpc_params![
					"SessionsApi_lanes",
					Bytes(model.as_bytes().to_vec()),
					head.hash()
				];
				let reply: Bytes = self.client.call("state_call", arguments).await;
				let lanes = Vec::<LaneView<AccountId>>::decode(&mut &reply[..]);
				if lanes.expect("the runtime is known").len() == count {
					return;
				}
			}
		})
		.await
	}

	/// What the node gives at its metrics' address ([`Options::metrics`]).
	pub async fn metrics(at: std::net::SocketAddr) -> String {
		use tokio::io::{AsyncReadExt, AsyncWriteExt};
		let ask = async {
			let mut node = tokio::net::TcpStream::connect(at).await?;
			let request =
				format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
			node.write_all(request.as_bytes()).await?;
			let mut reply = String::new();
			node.read_to_string(&mut reply).await?;
			Ok::<_, std::io::Error>(reply)
		};
		within("metrics", ask)
			.await
			.expect("the node gives metrics")
	}

	/// Returns when the node's process has ended by itself.
	pub async fn ended(&mut self) {
		let status = within("the node's end", self.child.wait()).await;
		status.expect("a child can be waited for");
	}

	/// Address with which other nodes find this one.
	async fn address(&self) -> String {
		let list: Vec<String> = self
			.client
			.call("system_localListenAddresses", rpc_params![])
			.await;
		list.into_iter()
			.find(|a| a.contains("/ip4/127.0.0.1/") && !a.ends_with("/ws"))
			.expect("the node listens on the address that it was given")
	}

	/// Imports a model's folder into this node's store. Gives the id.
	pub async fn import(&self, folder: &Path) -> Result<String, String> {
		let (folder, base) = (
			folder.display().to_string(),
			self.base.display().to_string(),
		);
		// Whether these models are of the exact class has tests of its own.
		let reply = cli([
			"model",
			"import",
			&folder,
			"--no-measure",
			"--base-path",
			&base,
		])
		.await?;
		Ok(reply["model"]
			.as_str()
			.expect("an import gives an id")
			.to_owned())
	}

	/// Folder of a model in this node's store.
	pub fn stored(&self, model: &str) -> PathBuf {
		consilience_worker::store_folder(&self.base).join(model.trim_start_matches("0x"))
	}

	/// Registers a stored model at this node's chain.
	pub async fn register(&self, model: &str, suri: &str) -> Result<serde_json::Value, String> {
		let base = self.base.display().to_string();
		cli([
			"model",
			"register",
			model,
			"--base-path",
			&base,
			"--suri",
			suri,
			"--url",
			&self.url,
		])
		.await
	}
}

/// Arguments that tell a node where to find the others.
fn bootnodes(address: Option<&str>) -> impl Iterator<Item = &str> {
	address.into_iter().flat_map(|a| ["--bootnodes", a])
}

async fn find_line<T>(
	log: &Mutex<Vec<String>>,
	lines: &mut watch::Receiver<usize>,
	what: &str,
	find: impl Fn(&str) -> Option<T>,
) -> T {
	let mut seen = 0;
	within(what, async {
		loop {
			{
				let log = log.lock().unwrap_or_else(|e| e.into_inner());
				if let Some(found) = log[seen..].iter().find_map(|l| find(l)) {
					return found;
				}
				seen = log.len();
			}
			if lines.changed().await.is_err() {
				panic!("{what}: the node ended before");
			}
		}
	})
	.await
}

/// A network of validators.
pub struct Network {
	/// The validators by the order of their names.
	pub nodes: Vec<Node>,
	/// A folder for the test.
	pub folder: tempfile::TempDir,
	chain: String,
	/// By which nodes find each other, where no lines lead from each to each.
	bootnode: Option<String>,
	lines: Option<Lines>,
}

impl Network {
	/// Starts the four of the `local` chain and waits for finality. `variables` are added to the environment of the node of that
	/// name.
	pub async fn start(variables: &[(&str, (&str, &str))]) -> Self {
		let folder = tempfile::tempdir().expect("a folder for temporary files");
		let options = |name: &str| {
			let own = variables.iter().filter(|(of, _)| *of == name);
			Options {
				variables: own
					.map(|(_, (k, v))| ((*k).to_owned(), (*v).to_owned()))
					.collect(),
				..Default::default()
			}
		};
		Self::of(folder, "local", &NAMES, options, None).await
	}

	/// The same four, each node with these options.
	pub async fn of_four_with(options: impl Fn(&str) -> Options) -> Self {
		let folder = tempfile::tempdir().expect("a folder for temporary files");
		Self::of(folder, "local", &NAMES, options, None).await
	}

	/// The same, and the network can be [split](Self::split).
	pub async fn of_four_on_lines(options: impl Fn(&str) -> Options) -> Self {
		let folder = tempfile::tempdir().expect("a folder for temporary files");
		let lines = Lines::between(NAMES.len(), folder.path()).await;
		Self::of(folder, "local", &NAMES, options, Some(lines)).await
	}

	/// Starts seven validators of a chain made for them, and waits for finality.
	pub async fn of_seven() -> Self {
		Self::of_seven_with(|_| Options::default()).await
	}

	/// The same, each node with these options.
	pub async fn of_seven_with(options: impl Fn(&str) -> Options) -> Self {
		let folder = tempfile::tempdir().expect("a folder for temporary files");
		let chain = seven_validators(folder.path()).await;
		Self::of(folder, &chain, &SEVEN, options, None).await
	}

	/// The same four on a chain that has room for so many more.
	pub async fn of_four_with_room(more: usize, options: impl Fn(&str) -> Options) -> Self {
		let folder = tempfile::tempdir().expect("a folder for temporary files");
		let chain = room_for(folder.path(), more).await;
		Self::of(folder, &chain, &NAMES, options, None).await
	}

	/// File of the chain's specification.
	pub fn chain(&self) -> &str {
		&self.chain
	}

	/// Starts a validator with keys of its own, as an operator does: its node key has to be in the base path.
	pub async fn joining(&self, name: &'static str, base: PathBuf, options: &Options) -> Node {
		let mut place = vec!["--chain", &self.chain, "--validator", "--name", name];
		place.extend(bootnodes(self.bootnode.as_deref()));
		Node::start_at(name, base, &place, options).await
	}

	/// Starts a node that does not validate.
	pub async fn observer(&self) -> Node {
		let mut place = vec!["--chain", &self.chain];
		place.extend(bootnodes(self.bootnode.as_deref()));
		let base = self.folder.path().join("observer");
		Node::start_at("observer", base, &place, &Options::default()).await
	}

	/// Ends a node, other than the first, for good.
	pub async fn kill(&mut self, index: usize) {
		assert_ne!(index, 0, "the first node's address is the others' bootnode");
		// Fails where it has ended already.
		let _ = self.nodes[index].child.kill().await;
	}

	/// Splits the network: these nodes reach each other, the others reach each other. Connections between the two end.
	pub fn split(&self, off: &[usize]) {
		let lines = self.lines.as_ref().expect("its lines can be cut");
		lines.cut(off);
	}

	/// All reach all again.
	pub fn join(&self) {
		self.split(&[]);
	}

	async fn of(
		folder: tempfile::TempDir,
		chain: &str,
		names: &[&'static str],
		options: impl Fn(&str) -> Options,
		lines: Option<Lines>,
	) -> Self {
		let chain = raw(folder.path(), chain).await;
		let start = |index: usize, bootnode: Option<String>| {
			let name = names[index];
			let (base, mut options, chain) = (folder.path().join(name), options(name), &chain);
			let lines = lines.iter().flat_map(|lines| lines.arguments(index));
			options.arguments.extend(lines.cloned());
			async move { Node::start(name, base, chain, bootnode.as_deref(), &options).await }
		};
		let first = start(0, None).await;
		let bootnode = match &lines {
			Some(_) => None,
			None => Some(first.address().await),
		};
		let others = (1..names.len()).map(|index| start(index, bootnode.clone()));
		let mut nodes = vec![first];
		nodes.extend(join_all(others).await);
		for node in &nodes {
			node.client.await_finalized(1).await;
		}
		Self {
			nodes,
			folder,
			chain,
			bootnode,
			lines,
		}
	}

	/// Ends a node, other than the first, by which the others find each other, and starts it again on what it has on disk.
	pub async fn restart(&mut self, index: usize, options: &Options) {
		assert_ne!(index, 0, "the first node's address is the others' bootnode");
		let mut old = self.nodes.remove(index);
		// Fails where it has ended already.
		let _ = old.child.kill().await;
		let (name, base) = (old.name, old.base.clone());
		drop(old);
		let mut options = options.clone();
		let lines = self.lines.iter().flat_map(|lines| lines.arguments(index));
		options.arguments.extend(lines.cloned());
		let node = Node::start(name, base, &self.chain, self.bootnode.as_deref(), &options).await;
		self.nodes.insert(index, node);
	}

	/// Imports a folder at the nodes of these indices, registers the model, has them serve it, and waits until all do. Gives the id.
	pub async fn bring_up(&self, folder: &Path, at: &[usize]) -> String {
		let first = &self.nodes[at[0]];
		let model = first
			.import(folder)
			.await
			.expect("the model can be imported");
		let stored = first.stored(&model);
		let others = at[1..]
			.iter()
			.map(|other| self.nodes[*other].import(&stored));
		for imported in join_all(others).await {
			assert_eq!(imported.as_ref(), Ok(&model));
		}
		first
			.register(&model, "//Alice")
			.await
			.expect("the model can be registered");
		let id = model.parse().expect("an id is a hash");
		for index in at {
			self.nodes[*index]
				.client
				.rpc
				.serve(id)
				.await
				.expect("a stored model can be served");
		}
		first.await_serving(id, |count| count == at.len()).await;
		model
	}
}
