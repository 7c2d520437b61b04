//! A gateway on a network that only behaves like one: for trying out clients, and for their tests.
//!
//! The text of a request chooses how it ends: `expire`, `unanswerable`, `reject` and `busy` name an end, any other text is repeated. With
//! `--session` there is a session lane: `refute`, `unchecked`, `failover`, `replace`, `silence` and `no funds` name what happens there.

#[allow(dead_code, clippy::unwrap_used)]
#[path = "../tests/gateway/double.rs"]
mod double;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use consilience_gateway::{lane::Lane, Config, Gateway};

/// A gateway on a network that only behaves like one.
#[derive(Parser)]
struct Arguments {
	/// Where it listens; what it became is the first line of its output.
	#[arg(long, default_value = "127.0.0.1:0")]
	listen: SocketAddr,
	/// File with API keys.
	#[arg(long)]
	keys: Option<PathBuf>,
	/// Folder of a web page.
	#[arg(long)]
	web: Option<PathBuf>,
	/// Address of the node that the page reads.
	#[arg(long)]
	web_node: Option<String>,
	/// Folder of the journal.
	#[arg(long)]
	data: PathBuf,
	/// Whether there is a session lane.
	#[arg(long)]
	session: bool,
	/// Milliseconds of a block, and of a word in the session lane.
	#[arg(long, default_value_t = 20)]
	block: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
	tracing_subscriber::fmt()
		.with_writer(std::io::stderr)
		.init();
	let arguments = Arguments::parse();
	let mut config = Config::new(arguments.listen, arguments.data);
	config.keys = arguments.keys;
	config.web = arguments.web;
	config.web_node = arguments.web_node;
	config.ping = Duration::from_millis(10);
	let mut network = double::Double::automatic(Duration::from_millis(arguments.block));
	if arguments.session {
		network = network.with_channels(1);
	}
	let lanes = network.lanes().into_iter();
	let lanes = lanes.map(|lane| Arc::new(lane) as Arc<dyn Lane>).collect();
	let gateway = Gateway::bind(config, Arc::new(network), lanes).await?;
	println!("http://{}", gateway.address());
	let stop = async {
		let _ = tokio::signal::ctrl_c().await;
	};
	gateway.run(stop).await;
	Ok(())
}
