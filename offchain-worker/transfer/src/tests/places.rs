//! Models from folders, web servers and gateways of IPFS.

use std::{
	io::{BufRead, BufReader, Write},
	net::{TcpListener, TcpStream},
};

use super::{model::*, *};
use crate::Place;

/// What a server gives at a path.
type Gives = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// A web server that has no other purpose. Its address.
fn server(ranges: bool, gives: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> String {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let address = format!("http://{}", listener.local_addr().unwrap());
	let gives: Arc<Gives> = Arc::new(gives);
	std::thread::spawn(move || {
		for stream in listener.incoming().map_while(Result::ok) {
			let gives = gives.clone();
			std::thread::spawn(move || answer(stream, ranges, &*gives));
		}
	});
	address
}

fn answer(mut stream: TcpStream, ranges: bool, gives: &Gives) {
	let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
	let first = lines.next().unwrap().unwrap();
	let path = first.split(' ').nth(1).unwrap().to_owned();
	let mut range = None;
	for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
		if let Some(wanted) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
			let (from, to) = wanted.split_once('-').unwrap();
			range = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap()));
		}
	}
	let (status, body) = match (gives(&path), range.filter(|_| ranges)) {
		(None, _) => ("404 Not Found", Vec::new()),
		(Some(body), None) => ("200 OK", body),
		(Some(body), Some((from, to))) => ("206 Partial Content", body[from..=to].to_vec()),
	};
	let head = format!(
		"HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
		body.len()
	);
	// Whoever asked may be gone.
	let _ = stream
		.write_all(head.as_bytes())
		.and_then(|()| stream.write_all(&body));
}

/// A store's folder behind a web server.
fn mirror(store: &Store, ranges: bool, bit: u8) -> String {
	let root = store.root().to_owned();
	server(ranges, move |path| {
		let mut bytes = fs::read(root.join(path.trim_start_matches('/'))).ok()?;
		if path.ends_with(".bin") {
			*bytes.last_mut()? ^= bit;
		}
		Some(bytes)
	})
}

fn from(places: Vec<String>, here: &Store) -> Transfers {
	let sources: Vec<Place> = places.iter().map(|p| p.parse().unwrap()).collect();
	let options = Options {
		sources,
		..Options::default()
	};
	with(here, &Arc::default(), options)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_a_server_and_a_gateway_give_a_model() {
	let (_a, source) = store();
	let manifest = import(&source, "places", &bytes(1, 5 << 20));
	let blocks: HashMap<String, Vec<u8>> = {
		let shelf = Shelf::new(source.clone());
		let pieces = consilience_store::Piece::of(&manifest).into_iter();
		let pieces = pieces.map(|p| (p.chunk.hash, shelf.piece(p.chunk.hash).unwrap()));
		pieces
			.chain([(manifest.id(), manifest.encode())])
			.map(|(hash, bytes)| (cid(hash), bytes))
			.collect()
	};
	let gateway = server(false, move |path| {
		let cid = path.strip_prefix("/ipfs/")?.strip_suffix("?format=raw")?;
		blocks.get(cid).cloned()
	});
	for place in [
		source.root().display().to_string(),
		mirror(&source, true, 0),
		format!("ipfs+{gateway}"),
	] {
		let (_b, here) = store();
		fetched_one(&from(vec![place], &here), &here, &manifest).await;
	}
}

/// The CID of a raw block, by the specification and not by the code that is tested.
fn cid(hash: H256) -> String {
	let bytes = [&[1, 0x55, 0xa0, 0xe4, 2, 32][..], &hash.0].concat();
	let mut text = String::from("b");
	let bits: Vec<u8> = bytes
		.iter()
		.flat_map(|b| (0..8).rev().map(move |i| b >> i & 1))
		.collect();
	for five in bits.chunks(5) {
		let value = (0..5).fold(0, |n, i| n << 1 | five.get(i).copied().unwrap_or(0));
		text.push(char::from(
			b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(value)],
		));
	}
	text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_or_answers_no_ranges_keeps_nobody_from_the_rest() {
	let (_a, source) = store();
	let manifest = import(&source, "wrong places", &bytes(2, 3 << 20));
	let (_b, here) = store();
	let places = vec![
		mirror(&source, true, 1),
		mirror(&source, false, 0),
		mirror(&source, true, 0),
	];
	fetched_one(&from(places, &here), &here, &manifest).await;
}
