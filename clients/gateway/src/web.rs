//! The web page: a folder of files, read once when the gateway starts.
//!
//! What is not in memory is not served: no path leads out of the folder, and nothing is listed.

use std::{collections::HashMap, io, path::Path};

use axum::{
	body::{Body, Bytes},
	http::{header, HeaderValue, Method, StatusCode, Uri},
	response::Response,
};
use serde_json::json;

/// Most bytes of all files: the page has a few megabytes, and a larger folder is another one.
const MOST_BYTES: u64 = 64 << 20;

/// The page.
#[derive(Debug)]
pub(crate) struct Page {
	/// By path, without the slash it begins with.
	files: HashMap<String, File>,
	policy: HeaderValue,
}

#[derive(Debug)]
struct File {
	media_type: &'static str,
	bytes: Bytes,
}

impl Page {
	/// Reads the page in `folder`, which is told to read the chain from `node`.
	///
	/// # Errors
	/// If a file cannot be read, there is no `index.html`, or it is too much.
	pub(crate) fn read(folder: &Path, node: Option<&str>) -> io::Result<Self> {
		let mut files = HashMap::new();
		let mut left = MOST_BYTES;
		gather(folder, "", &mut files, &mut left)?;
		if !files.contains_key("index.html") {
			let why = "there is no index.html: npm run build makes it, in clients/web/dist";
			return Err(io::Error::new(io::ErrorKind::NotFound, why));
		}
		if let Some(node) = node {
			let config = json!({ "node": node, "relay": "v1/lane" }).to_string();
			let file = File {
				media_type: "application/json",
				bytes: config.into(),
			};
			files.insert("config.json".into(), file);
		}
		let policy = policy(node).try_into().map_err(|_| {
			io::Error::new(
				io::ErrorKind::InvalidInput,
				"the node's address is no header",
			)
		})?;
		Ok(Self { files, policy })
	}

	/// The file that a call asks for, if it is one.
	pub(crate) fn answer(&self, method: &Method, uri: &Uri) -> Option<Response> {
		if method != Method::GET && method != Method::HEAD {
			return None;
		}
		let path = uri.path().strip_prefix('/')?;
		let path = if path.is_empty() { "index.html" } else { path };
		let file = self.files.get(path)?;
		let body = match *method {
			Method::HEAD => Body::empty(),
			_ => Body::from(file.bytes.clone()),
		};
		let mut response = Response::new(body);
		*response.status_mut() = StatusCode::OK;
		// A built file's name changes with what is in it.
		let keep = match path.starts_with("assets/") {
			true => "public, max-age=31536000, immutable",
			false => "no-cache",
		};
		let headers = response.headers_mut();
		headers.insert(header::CONTENT_LENGTH, file.bytes.len().into());
		headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
		for (name, value) in [
			(header::CONTENT_TYPE, file.media_type),
			(header::CACHE_CONTROL, keep),
			(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
			(header::REFERRER_POLICY, "no-referrer"),
		] {
			headers.insert(name, HeaderValue::from_static(value));
		}
		Some(response)
	}
}

/// Scripts, styles and pictures of this origin alone; calls to this gateway and to nodes. Whoever reads the page chooses the node, so that
/// every node with TLS is allowed, and without TLS those of the reader's own machine and the one that the gateway names.
fn policy(node: Option<&str>) -> String {
	let plain = "ws://127.0.0.1:* ws://localhost:*";
	let named = node
		.filter(|node| node.starts_with("ws://"))
		.filter(|node| !node.contains([' ', ';', ',']))
		.unwrap_or_default();
	// polkadot.js has its cryptography in WebAssembly.
	format!(
		"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; \
		 connect-src 'self' wss: {plain} {named}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	)
}

fn gather(
	folder: &Path,
	prefix: &str,
	files: &mut HashMap<String, File>,
	left: &mut u64,
) -> io::Result<()> {
	for entry in std::fs::read_dir(folder)? {
		let entry = entry?;
		let name = entry.file_name();
		let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
			continue;
		};
		let path = format!("{prefix}{name}");
		// Links are followed nowhere: `file_type` does not.
		let kind = entry.file_type()?;
		if kind.is_dir() {
			gather(&entry.path(), &format!("{path}/"), files, left)?;
		} else if kind.is_file() {
			let size = entry.metadata()?.len();
			*left = left.checked_sub(size).ok_or_else(|| {
				io::Error::new(
					io::ErrorKind::InvalidInput,
					"more than 64 MiB: this is not the page's folder",
				)
			})?;
			let file = File {
				media_type: media_type(name),
				bytes: std::fs::read(entry.path())?.into(),
			};
			files.insert(path, file);
		}
	}
	Ok(())
}

fn media_type(name: &str) -> &'static str {
	match name.rsplit_once('.').map(|(_, end)| end) {
		Some("html") => "text/html; charset=utf-8",
		Some("js") => "text/javascript; charset=utf-8",
		Some("css") => "text/css; charset=utf-8",
		Some("json" | "map") => "application/json",
		Some("svg") => "image/svg+xml",
		Some("png") => "image/png",
		Some("ico") => "image/x-icon",
		Some("wasm") => "application/wasm",
		Some("woff2") => "font/woff2",
		Some("txt") => "text/plain; charset=utf-8",
		_ => "application/octet-stream",
	}
}
