//! API keys.

use std::{collections::HashMap, path::Path, sync::Arc};

use axum::http::{header, HeaderMap};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
	error::Error,
	network::{parse_csl, Amount},
};

/// A caller, by its API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
	/// Its name, in journal and log.
	pub name: String,
	/// The budget per day; without one it may spend as much as the gateway's account has.
	pub budget_per_day: Option<Amount>,
}

/// Why a file of keys is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
	/// It cannot be read.
	#[error("{0}: {1}")]
	Read(String, std::io::Error),
	/// It is not TOML of the right shape.
	#[error("{0}: {1}")]
	Parse(String, String),
	/// A key in it is wrong.
	#[error("{file}: key {name:?}: {why}")]
	Key {
		/// The file.
		file: String,
		/// Name of the key.
		name: String,
		/// What is wrong.
		why: String,
	},
	/// There are no keys in it.
	#[error("{0} holds no [[keys]]: nobody could use the gateway")]
	Empty(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
	#[serde(default)]
	keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
	name: String,
	sha256: String,
	budget_per_day: Option<Csl>,
}

/// Floats are not taken: they lose digits.
#[derive(Deserialize)]
#[serde(
	untagged,
	expecting = "an amount of CSL is a string such as \"1.5\", or a whole number"
)]
enum Csl {
	Text(String),
	Whole(u64),
}

/// The keys that the gateway knows. Only their SHA-256 is kept, and it is the digest of what a client sends that is looked for: how long
/// that takes says nothing of a key.
#[derive(Debug)]
pub struct Keys {
	by_digest: Option<HashMap<[u8; 32], Arc<Key>>>,
	anyone: Arc<Key>,
}

impl Keys {
	/// Lets everybody in.
	pub fn none() -> Self {
		Self {
			by_digest: None,
			anyone: Arc::new(Key {
				name: "local".into(),
				budget_per_day: None,
			}),
		}
	}

	/// Reads a file of keys.
	///
	/// # Errors
	/// If it cannot be read, or says something that is not understood.
	pub fn read(path: &Path) -> Result<Self, KeysError> {
		let file = path.display().to_string();
		let text = std::fs::read_to_string(path).map_err(|e| KeysError::Read(file.clone(), e))?;
		Self::parse(&text, &file)
	}

	fn parse(text: &str, file: &str) -> Result<Self, KeysError> {
		let read: File =
			toml::from_str(text).map_err(|e| KeysError::Parse(file.into(), e.to_string()))?;
		let mut by_digest = HashMap::new();
		let mut names = std::collections::HashSet::new();
		for entry in read.keys {
			let wrong = |why: &str| KeysError::Key {
				file: file.into(),
				name: entry.name.clone(),
				why: why.into(),
			};
			if entry.name.is_empty() || !names.insert(entry.name.clone()) {
				return Err(wrong("names are not empty, and each is there once"));
			}
			let digest: [u8; 32] = HEXLOWER_PERMISSIVE
				.decode(entry.sha256.as_bytes())
				.ok()
				.and_then(|d| d.try_into().ok())
				.ok_or_else(|| wrong("sha256 is not 64 hexadecimal digits"))?;
			let budget_per_day = match &entry.budget_per_day {
				None => None,
				Some(Csl::Text(text)) => Some(parse_csl(text).map_err(|e| wrong(&e))?),
				Some(Csl::Whole(n)) => Some(parse_csl(&n.to_string()).map_err(|e| wrong(&e))?),
			};
			let key = Key {
				name: entry.name.clone(),
				budget_per_day,
			};
			if by_digest.insert(digest, Arc::new(key)).is_some() {
				return Err(wrong("another entry has the same sha256"));
			}
		}
		if by_digest.is_empty() {
			return Err(KeysError::Empty(file.into()));
		}
		Ok(Self {
			by_digest: Some(by_digest),
			..Self::none()
		})
	}

	/// Returns whether a key is needed.
	pub fn are_needed(&self) -> bool {
		self.by_digest.is_some()
	}

	/// Returns the key of a call.
	///
	/// # Errors
	/// [`Error::NoKey`] and [`Error::WrongKey`].
	pub fn find(&self, headers: &HeaderMap) -> Result<Arc<Key>, Error> {
		let Some(by_digest) = &self.by_digest else {
			return Ok(self.anyone.clone());
		};
		let bearer = headers
			.get(header::AUTHORIZATION)
			.and_then(|v| v.as_bytes().split_first_chunk::<7>())
			.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
			.map(|(_, key)| key);
		let own = headers.get("x-api-key").map(|v| v.as_bytes());
		let given = own.or(bearer).filter(|k| !k.is_empty());
		let asked = given.is_none().then(|| of_socket(headers)).flatten();
		let given = given.or(asked.as_deref()).ok_or(Error::NoKey)?;
		let digest: [u8; 32] = Sha256::digest(given).into();
		by_digest.get(&digest).cloned().ok_or(Error::WrongKey)
	}
}

/// Returns the key that a web page offers with a WebSocket: browsers send no headers with one, but names of protocols. A key may have other
/// characters than such a name, and is written in hexadecimal digits.
fn of_socket(headers: &HeaderMap) -> Option<Vec<u8>> {
	let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
	let mut words = offered
		.filter_map(|value| value.to_str().ok())
		.flat_map(|value| value.split(','));
	let key = words.find_map(|word| word.trim().strip_prefix("consilience-key."))?;
	let key = HEXLOWER_PERMISSIVE.decode(key.as_bytes()).ok()?;
	Some(key).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
	use super::*;

	/// SHA-256 of `secret`.
	const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

	fn headers(name: &'static str, value: &str) -> HeaderMap {
		let mut headers = HeaderMap::new();
		headers.insert(name, value.parse().unwrap());
		headers
	}

	#[test]
	fn keys_are_found_by_their_digest() {
		let text =
			format!("[[keys]]\nname = \"a\"\nsha256 = \"{SECRET}\"\nbudget_per_day = \"1.5\"");
		let keys = Keys::parse(&text, "f").unwrap();
		for headers in [
			headers("authorization", "Bearer secret"),
			headers("authorization", "bearer secret"),
			headers("x-api-key", "secret"),
			// What a browser can say with a WebSocket: 736563726574 is `secret`.
			headers(
				"sec-websocket-protocol",
				"consilience-lane, consilience-key.736563726574",
			),
		] {
			let key = keys.find(&headers).unwrap();
			assert_eq!(key.budget_per_day, Some(1_500_000_000_000));
		}
		for wrong in ["Bearer Secret", "Bearer secret "] {
			let found = keys.find(&headers("authorization", wrong));
			assert_eq!(found, Err(Error::WrongKey), "{wrong}");
		}
		for none in ["Basic secret", "Bearer ", "secret"] {
			let found = keys.find(&headers("authorization", none));
			assert_eq!(found, Err(Error::NoKey), "{none}");
		}
		for (offered, error) in [
			("consilience-lane", Error::NoKey),
			("consilience-key.", Error::NoKey),
			("consilience-key.xx", Error::NoKey),
			("consilience-key.00", Error::WrongKey),
		] {
			let found = keys.find(&headers("sec-websocket-protocol", offered));
			assert_eq!(found, Err(error), "{offered}");
		}
		assert_eq!(Keys::none().find(&HeaderMap::new()).unwrap().name, "local");
	}

	#[test]
	fn what_is_wrong_in_a_file_is_said() {
		let entry = |rest: &str| format!("[[keys]]\nname = \"a\"\nsha256 = \"{SECRET}\"\n{rest}");
		for (text, says) in [
			(String::new(), "holds no [[keys]]"),
			("[[key]]".into(), "unknown field"),
			(entry("budget = 1"), "unknown field"),
			(entry("budget_per_day = 1.5"), "is a string such as"),
			(entry("budget_per_day = \"1.5 CSL\""), "not an amount"),
			(
				"[[keys]]\nname = \"a\"\nsha256 = \"ab\"".into(),
				"64 hexadecimal",
			),
			(entry(&entry("")), "each is there once"),
			(entry(&entry("").replace("\"a\"", "\"b\"")), "same sha256"),
		] {
			let why = Keys::parse(&text, "f").unwrap_err().to_string();
			assert!(why.contains(says), "{why}");
		}
	}
}
