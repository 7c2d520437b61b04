//! Lines between nodes that can be cut: a network that is split in two.

use std::{net::SocketAddr, path::Path, process::Stdio};

use tokio::{
	io::copy_bidirectional,
	net::{TcpListener, TcpStream},
	process::Command,
	sync::watch,
};

use crate::{binary, free_address};

/// A line from each node to each other. A node reaches the others over them alone.
pub(crate) struct Lines {
	/// What each node is started with.
	arguments: Vec<Vec<String>>,
	/// On which side each node is.
	sides: watch::Sender<Vec<usize>>,
}

impl Lines {
	/// Lines between so many nodes, whose keys are kept in this folder.
	pub(crate) async fn between(count: usize, folder: &Path) -> Self {
		let sides = watch::Sender::new(vec![0; count]);
		let (mut peers, mut arguments) = (Vec::new(), Vec::new());
		for node in 0..count {
			let key = folder.join(format!("node-key-{node}"));
			let address = free_address();
			peers.push((address, peer(&key).await));
			arguments.push(vec![
				"--node-key-file".into(),
				key.display().to_string(),
				"--listen-addr".into(),
				multiaddr(address),
				// Of this backend it is known that it dials no private address but those it was given.
				"--network-backend".into(),
				"libp2p".into(),
				"--no-private-ip".into(),
				"--reserved-only".into(),
			]);
		}
		for (from, arguments) in arguments.iter_mut().enumerate() {
			for (to, (address, id)) in peers.iter().enumerate().filter(|(to, _)| *to != from) {
				let line = TcpListener::bind("127.0.0.1:0").await;
				let line = line.expect("there is a free port");
				let near = line.local_addr().expect("it is bound");
				tokio::spawn(carry(line, *address, sides.subscribe(), [from, to]));
				arguments.push("--reserved-nodes".into());
				arguments.push(format!("{}/p2p/{id}", multiaddr(near)));
			}
		}
		Self { arguments, sides }
	}

	/// What a node is started with.
	pub(crate) fn arguments(&self, node: usize) -> &[String] {
		&self.arguments[node]
	}

	/// Cuts the lines between these nodes and the others; with none of them, all lines are whole.
	pub(crate) fn cut(&self, off: &[usize]) {
		let count = self.arguments.len();
		let side = |node| usize::from(off.contains(&node));
		self.sides.send_replace((0..count).map(side).collect());
	}
}

/// Makes a node's key. Gives its id.
async fn peer(key: &Path) -> String {
	let made = Command::new(binary())
		.args(["key", "generate-node-key", "--file"])
		.arg(key)
		.stdin(Stdio::null())
		.output();
	let made = made.await.expect("the binary runs; qed");
	assert!(made.status.success(), "{made:?}");
	let said = String::from_utf8(made.stderr).expect("it is text");
	said.trim().to_owned()
}

fn multiaddr(address: SocketAddr) -> String {
	format!("/ip4/{}/tcp/{}", address.ip(), address.port())
}

/// Carries connections between two nodes while they are on the same side.
async fn carry(
	line: TcpListener,
	to: SocketAddr,
	sides: watch::Receiver<Vec<usize>>,
	[a, b]: [usize; 2],
) {
	while let Ok((mut near, _)) = line.accept().await {
		let mut sides = sides.clone();
		let apart = move |side: &Vec<usize>| side[a] != side[b];
		if apart(&sides.borrow()) {
			continue;
		}
		tokio::spawn(async move {
			// One that does not listen yet is dialled again.
			let Ok(mut far) = TcpStream::connect(to).await else {
				return;
			};
			tokio::select! {
				_ = copy_bidirectional(&mut near, &mut far) => (),
				_ = sides.wait_for(apart) => (),
			}
		});
	}
}
