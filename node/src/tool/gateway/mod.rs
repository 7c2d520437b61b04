//! `consilience gateway`.

mod network;
mod session;
mod shapes;
mod submission;

use std::{
	net::SocketAddr,
	path::{Path, PathBuf},
	sync::Arc,
};

use consilience_gateway::{lane::Lane, Config, Gateway};
use polkadot_sdk::sc_cli;

use self::{network::NodeNetwork, session::NodeLane};
use super::{block_on, chain, parse_csl, NodeAddress, Result, Signer};

/// Let clients of OpenAI, Anthropic and the Open Inference Protocol use this chain (docs/gateway.md).
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayCommand {
	#[command(flatten)]
	signer: Signer,
	#[command(flatten)]
	node: NodeAddress,

	/// Address to listen on. Without --keys a loopback address.
	#[arg(long, default_value = "127.0.0.1:8080")]
	listen: SocketAddr,

	/// TOML file of API keys: [[keys]] with name, sha256 of the key and, if it is bounded, budget_per_day in CSL.
	#[arg(long, value_name = "FILE")]
	keys: Option<PathBuf>,

	/// Join web pages to validators at addresses that are not public, too. Without --keys they always are.
	#[arg(long, requires = "keys")]
	relay_local: bool,

	/// Folder of the gateway's journal: requests that are not settled, what keys have spent, and idempotency keys. Each account needs its
	/// own.
	#[arg(long, value_name = "DIRECTORY")]
	data: PathBuf,

	/// CSL to be held for channels of the session lane (docs/sessions.md), in equal parts, where their wallets have none yet. With it text is
	/// generated in that lane, where validators of the model take part in it and a call does not say otherwise.
	#[arg(long, value_name = "CSL", value_parser = parse_csl)]
	session_deposit: Option<u128>,

	/// How many channels that are. In a channel each validator answers one question at a time: so many times as many are answered at once.
	#[arg(long, value_name = "N", requires = "session_deposit", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
	session_channels: u8,

	/// Folder of the first channel's wallet: its keys, vouchers and receipts. The others' have its name with -2, -3 and so on
	/// [default: session in --data].
	#[arg(long, value_name = "DIRECTORY", requires = "session_deposit")]
	session_wallet: Option<PathBuf>,

	/// Folder of a web page to serve at /: clients/web/dist, as `npm run build` makes it in clients/web.
	#[arg(long, value_name = "DIRECTORY")]
	web: Option<PathBuf>,

	/// Address of the node that the page reads, as a browser reaches it. Without it that of --url.
	#[arg(long, value_name = "URL", requires = "web")]
	web_node: Option<String>,

	/// Origin whose web pages may use the gateway, such as https://example.org; * for all.
	#[arg(long, value_name = "ORIGIN")]
	cors: Vec<String>,

	/// Most tokens of an answer where a client does not say.
	#[arg(long, default_value_t = 256)]
	default_max_tokens: u32,

	/// Calls that are answered at once; others are told to try again.
	#[arg(long, default_value_t = 1_024)]
	concurrency: usize,
}

impl GatewayCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		tracing_subscriber::fmt()
			.with_writer(std::io::stderr)
			.with_max_level(tracing::Level::INFO)
			.init();
		block_on(self.serve())
	}

	async fn serve(&self) -> Result<()> {
		let network = NodeNetwork::new(&self.node.url, chain::pair(&self.signer.suri)?);
		// A node that goes away later is waited for; one that never was there is a mistake.
		network.chain().await.map_err(|e| e.to_string())?;
		let lanes = self.lanes(&network).await?;
		let mut config = Config::new(self.listen, self.data.clone());
		config.keys = self.keys.clone();
		config.relay_local = self.relay_local;
		config.web = self.web.clone();
		config.web_node = self
			.web_node
			.clone()
			.or_else(|| Some(self.node.url.clone()));
		config.cors = self.cors.clone();
		config.default_max_tokens = self.default_max_tokens;
		config.concurrency = self.concurrency;
		let gateway = Gateway::bind(config, Arc::new(network), lanes);
		let gateway = gateway.await.map_err(|e| e.to_string())?;
		let address = gateway.address();
		eprintln!(
			"the gateway listens on http://{address} and pays with {}",
			chain::address(&network::account(&chain::pair(&self.signer.suri)?))
		);
		gateway.run(stopped()).await;
		Ok(())
	}

	/// Opens the session lane, where the gateway is to have channels.
	async fn lanes(&self, network: &NodeNetwork) -> Result<Vec<Arc<dyn Lane>>> {
		let Some(deposit) = self.session_deposit else {
			return Ok(Vec::new());
		};
		let first = self.session_wallet.clone();
		let first = first.unwrap_or_else(|| self.data.join("session"));
		let deposit = deposit / u128::from(self.session_channels);
		let folders: Vec<_> = (1..=self.session_channels)
			.map(|number| wallet(&first, number))
			.collect();
		let opening = folders
			.iter()
			.map(|folder| NodeLane::open(network, folder, deposit));
		let lanes = futures::future::try_join_all(opening).await?;
		let numbers: Vec<_> = lanes
			.iter()
			.map(|lane| lane.channel().to_string())
			.collect();
		eprintln!(
			"channels that pay in the session lane: {}",
			numbers.join(", ")
		);
		let lanes = lanes.into_iter();
		Ok(lanes.map(|lane| Arc::new(lane) as Arc<dyn Lane>).collect())
	}
}

/// Returns the folder of a channel's wallet.
fn wallet(first: &Path, number: u8) -> PathBuf {
	let mut folder = first.as_os_str().to_owned();
	if number > 1 {
		folder.push(format!("-{number}"));
	}
	folder.into()
}

/// Waits until the process is asked to end.
async fn stopped() {
	use tokio::signal::{
		ctrl_c,
		unix::{signal, SignalKind},
	};
	let Ok(mut terminated) = signal(SignalKind::terminate()) else {
		let _ = ctrl_c().await;
		return;
	};
	tokio::select! {
		_ = ctrl_c() => (),
		_ = terminated.recv() => (),
	}
}
