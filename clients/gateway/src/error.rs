//! Why a call fails, and how each interface says so.

use std::{sync::Arc, time::Duration};

use axum::{
	body::Body,
	http::{header, HeaderValue, StatusCode},
	response::{IntoResponse, Response},
};
use serde_json::{json, Value};

use crate::network::Refusal;

/// How long to wait before trying again, where the network does not say: about the time in which a request is answered and checked.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// The interface that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
	/// OpenAI's.
	OpenAi,
	/// Anthropic's.
	Anthropic,
	/// The Open Inference Protocol, version 2.
	InferenceProtocol,
}

impl Interface {
	/// Returns the interface that a path belongs to.
	pub fn of(path: &str) -> Self {
		if path == "/v2" || path.starts_with("/v2/") {
			Self::InferenceProtocol
		} else if path == "/v1/messages" || path.starts_with("/v1/messages/") {
			Self::Anthropic
		} else {
			Self::OpenAi
		}
	}
}

/// Why a call fails.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
	/// The body is not JSON, or not an object.
	#[error("the body is not a JSON object: {0}")]
	Json(String),
	/// A parameter that the interface does not have.
	#[error("unknown parameter {0:?}")]
	UnknownParameter(String),
	/// A parameter that the interface has and this gateway does not honour.
	#[error("{parameter} is not supported here: {why}")]
	Unsupported {
		/// Its name.
		parameter: String,
		/// Why it is not.
		why: String,
	},
	/// A parameter of a wrong type, out of its range, or missing.
	#[error("{message}")]
	Invalid {
		/// Its name, where it is one parameter's fault.
		parameter: Option<String>,
		/// What is wrong.
		message: String,
	},
	/// More text than the model takes, or more tokens than it gives.
	#[error("{0}")]
	TooLong(String),
	/// No such model.
	#[error("the model {0:?} does not exist: GET /v1/models shows those that do")]
	UnknownModel(String),
	/// The model takes no requests.
	#[error(
		"the model {0:?} takes no requests: too few validators serve it, or its owner withdrew it"
	)]
	NotActive(String),
	/// No API key, where one is needed.
	#[error("no API key: send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"")]
	NoKey,
	/// A key that the gateway does not know.
	#[error("the API key is not known here")]
	WrongKey,
	/// A web page, or a name, that this gateway does not serve.
	#[error("{0}")]
	Forbidden(String),
	/// The key's budget is used up.
	#[error("{0}")]
	Budget(String),
	/// The network is full.
	#[error("those who serve the model have more to do already than they can do in time: try again later, or ask for a shorter answer")]
	Busy(Option<Duration>),
	/// The gateway has as many calls as it takes.
	#[error("the gateway has as many calls as it takes at once")]
	TooMany,
	/// The body is larger than the gateway takes.
	#[error("the body is larger than {0} bytes")]
	BodyTooLarge(usize),
	/// The body did not arrive in time.
	#[error("the body did not arrive in time")]
	BodyTimeout,
	/// The connection broke within the body.
	#[error("the body did not arrive: {0}")]
	BodyBroken(String),
	/// An encoding that the gateway does not read.
	#[error("{0}")]
	MediaType(String),
	/// No such path.
	#[error("no such path: {0}")]
	NoRoute(String),
	/// The path does not take this method.
	#[error("the path does not take this method")]
	NoMethod,
	/// The idempotency key came with another body before.
	#[error(
		"the Idempotency-Key was used with another body before: a new request needs a new key"
	)]
	KeyReused,
	/// The request ended without an answer that counts. It is free, where the chain makes it so.
	#[error("request {request} {why}")]
	Failed {
		/// Its number.
		request: u64,
		/// How it ended, as a word.
		code: &'static str,
		/// What happened, after "request N".
		why: String,
		/// Status of the reply.
		status: StatusCode,
		/// What the chain says of the request.
		consilience: Box<Value>,
	},
	/// There is no answer of the session lane, or none that holds.
	#[error("{why}")]
	Unanswered {
		/// What happened, as a word.
		code: &'static str,
		/// What happened.
		why: String,
		/// Status of the reply.
		status: StatusCode,
		/// What is known of the question.
		consilience: Box<Value>,
	},
	/// The answer did not come in the time for which a reply is kept open.
	#[error("request {0} goes on, but this reply is not kept open any longer: ask again with the same Idempotency-Key")]
	Late(u64),
	/// The request was made, and the node went away.
	#[error("the node went away: {why}. Request {request} is on chain and goes on: ask again with the same Idempotency-Key, not without")]
	Outage {
		/// Its number.
		request: u64,
		/// What is known.
		why: String,
	},
	/// It is not known whether the request was made.
	#[error("the node went away while the request was sent: {0}. Ask again with the same Idempotency-Key, not without")]
	Uncertain(String),
	/// The chain does not know the request any more.
	#[error("the chain does not know request {0} any more")]
	Lost(u64),
	/// No node answers, and nothing was sent.
	#[error("no node answers: {0}")]
	Unreachable(String),
	/// The account that pays cannot.
	#[error("the gateway's account cannot pay: {0}")]
	Funds(String),
	/// Nobody answers in the session lane.
	#[error("nobody answers in the session lane: {0}")]
	NoExecutor(String),
	/// The gateway's channel in the session lane cannot pay.
	#[error("the gateway's channel cannot pay: {0}")]
	Channel(String),
	/// The gateway's journal does not work.
	#[error("the gateway's journal: {0}")]
	Journal(String),
	/// The gateway stops.
	#[error("the gateway is being stopped; what was sent goes on")]
	Stopping,
	/// The chain refused for another reason.
	#[error("the chain refused: {0}")]
	Refused(String),
}

impl Error {
	/// Returns a parameter that is wrong.
	pub(crate) fn invalid(parameter: impl Into<String>, message: impl Into<String>) -> Self {
		Self::Invalid {
			parameter: Some(parameter.into()),
			message: message.into(),
		}
	}

	/// Returns why the network refuses a request to this model.
	pub(crate) fn refusal(refusal: Refusal, model: &str) -> Self {
		match refusal {
			Refusal::UnknownModel => Self::UnknownModel(model.into()),
			Refusal::NotActive => Self::NotActive(model.into()),
			Refusal::Input(message) => Self::Invalid {
				parameter: None,
				message,
			},
			Refusal::TooLong(message) => Self::TooLong(message),
			Refusal::Verifiers(message) => Self::invalid("consilience.verifiers", message),
			Refusal::Busy { retry_after } => Self::Busy(retry_after),
			Refusal::Funds(why) => Self::Funds(why),
			Refusal::NoExecutor(why) => Self::NoExecutor(why),
			Refusal::Channel(why) => Self::Channel(why),
			Refusal::Journal(why) => Self::Journal(why),
			Refusal::Unreachable(why) => Self::Unreachable(why),
			Refusal::Other(why) => Self::Refused(why),
		}
	}

	/// Returns the status of the reply, in every interface but where [`Error::render`] says otherwise.
	pub fn status(&self) -> StatusCode {
		match self {
			Self::Json(_)
			| Self::UnknownParameter(_)
			| Self::Unsupported { .. }
			| Self::Invalid { .. }
			| Self::TooLong(_)
			| Self::BodyBroken(_) => StatusCode::BAD_REQUEST,
			Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
			Self::Forbidden(_) => StatusCode::FORBIDDEN,
			Self::UnknownModel(_) | Self::NoRoute(_) => StatusCode::NOT_FOUND,
			Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
			Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
			Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
			Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
			Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
			Self::Budget(_) | Self::Busy(_) | Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
			Self::Failed { status, .. } | Self::Unanswered { status, .. } => *status,
			Self::Outage { .. } | Self::Uncertain(_) | Self::Lost(_) | Self::Refused(_) => {
				StatusCode::BAD_GATEWAY
			}
			Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
			Self::NotActive(_)
			| Self::Unreachable(_)
			| Self::Funds(_)
			| Self::NoExecutor(_)
			| Self::Channel(_)
			| Self::Journal(_)
			| Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
		}
	}

	/// Returns a word for it, which never changes: `code` in OpenAI's shape, and the label of the metrics.
	pub fn code(&self) -> &'static str {
		match self {
			Self::Json(_) => "invalid_json",
			Self::UnknownParameter(_) => "unknown_parameter",
			Self::Unsupported { .. } => "unsupported_parameter",
			Self::Invalid { .. } => "invalid_value",
			Self::TooLong(_) => "context_length_exceeded",
			Self::UnknownModel(_) => "model_not_found",
			Self::NotActive(_) => "model_not_active",
			Self::NoKey | Self::WrongKey => "invalid_api_key",
			Self::Forbidden(_) => "forbidden",
			Self::Budget(_) => "insufficient_quota",
			Self::Busy(_) | Self::TooMany => "rate_limit_exceeded",
			Self::BodyTooLarge(_) => "request_too_large",
			Self::BodyTimeout | Self::BodyBroken(_) => "body_incomplete",
			Self::MediaType(_) => "unsupported_media_type",
			Self::NoRoute(_) => "unknown_url",
			Self::NoMethod => "method_not_allowed",
			Self::KeyReused => "idempotency_key_reused",
			Self::Failed { code, .. } | Self::Unanswered { code, .. } => code,
			Self::Late(_) => "reply_timeout",
			Self::Outage { .. } => "upstream_gone",
			Self::Uncertain(_) => "submission_uncertain",
			Self::Lost(_) => "request_forgotten",
			Self::Unreachable(_) => "upstream_unreachable",
			Self::Funds(_) | Self::Channel(_) => "gateway_out_of_funds",
			Self::NoExecutor(_) => "no_executor",
			Self::Journal(_) => "journal_failed",
			Self::Stopping => "gateway_stopping",
			Self::Refused(_) => "chain_refused",
		}
	}

	/// Returns whether trying again at once or soon can help and cannot cost anything twice. Clients of OpenAI and Anthropic follow the header
	/// that says so.
	fn may_be_retried(&self) -> bool {
		matches!(
			self,
			Self::Busy(_)
				| Self::TooMany
				| Self::Unreachable(_)
				| Self::NoExecutor(_)
				| Self::BodyTimeout
		)
	}

	fn retry_after(&self) -> Option<Duration> {
		match self {
			Self::Busy(after) => Some(after.unwrap_or(RETRY_AFTER)),
			Self::TooMany | Self::Unreachable(_) | Self::NoExecutor(_) => {
				Some(Duration::from_secs(3))
			}
			_ => None,
		}
	}

	/// Returns the error as an OpenAI client expects it.
	pub fn openai(&self) -> Value {
		let kind = match self {
			Self::Budget(_) => "insufficient_quota",
			Self::Busy(_) | Self::TooMany => "rate_limit_error",
			_ if self.status().is_server_error() => "server_error",
			_ => "invalid_request_error",
		};
		let parameter = match self {
			Self::UnknownParameter(name)
			| Self::Unsupported {
				parameter: name, ..
			}
			| Self::Invalid {
				parameter: Some(name),
				..
			} => Some(name.as_str()),
			Self::UnknownModel(_) | Self::NotActive(_) => Some("model"),
			_ => None,
		};
		let error = json!({
			"message": self.to_string(), "type": kind, "param": parameter, "code": self.code(),
		});
		self.with_consilience(json!({ "error": error }))
	}

	/// Returns the error as an Anthropic client expects it.
	pub fn anthropic(&self) -> Value {
		let kind = match self {
			Self::Budget(_) => "billing_error",
			Self::BodyTooLarge(_) => "request_too_large",
			_ => match self.status() {
				StatusCode::UNAUTHORIZED => "authentication_error",
				StatusCode::FORBIDDEN => "permission_error",
				StatusCode::NOT_FOUND => "not_found_error",
				StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
				StatusCode::GATEWAY_TIMEOUT => "timeout_error",
				StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
				status if status.is_server_error() => "api_error",
				_ => "invalid_request_error",
			},
		};
		let error = json!({ "type": kind, "message": self.to_string() });
		self.with_consilience(json!({ "type": "error", "error": error }))
	}

	/// Returns the error as the Open Inference Protocol writes it.
	pub fn inference_protocol(&self) -> Value {
		self.with_consilience(json!({ "error": self.to_string() }))
	}

	fn with_consilience(&self, mut body: Value) -> Value {
		if let Self::Failed { consilience, .. } | Self::Unanswered { consilience, .. } = self {
			body["consilience"] = (**consilience).clone();
		}
		body
	}

	/// Returns the reply in an interface's shape.
	pub fn render(&self, interface: Interface) -> Response {
		let (status, body) = match interface {
			Interface::OpenAi => (self.status(), self.openai()),
			Interface::InferenceProtocol => (self.status(), self.inference_protocol()),
			Interface::Anthropic => {
				let status = match self {
					Self::Budget(_) => StatusCode::PAYMENT_REQUIRED,
					_ => self.status(),
				};
				(status, self.anthropic())
			}
		};
		let mut response = Response::new(Body::from(body.to_string()));
		*response.status_mut() = status;
		let headers = response.headers_mut();
		headers.insert(
			header::CONTENT_TYPE,
			HeaderValue::from_static("application/json"),
		);
		if let Some(after) = self.retry_after() {
			let seconds = after.as_millis().div_ceil(1_000) as u64;
			headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
		}
		if status.is_server_error() || self.status() == StatusCode::TOO_MANY_REQUESTS {
			let retry = if self.may_be_retried() {
				"true"
			} else {
				"false"
			};
			headers.insert("x-should-retry", HeaderValue::from_static(retry));
		}
		if status == StatusCode::UNAUTHORIZED {
			headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
		}
		response
	}
}

/// An error on its way to whoever knows the interface: handlers return errors, and one place renders them.
impl IntoResponse for Error {
	fn into_response(self) -> Response {
		let mut response = self.status().into_response();
		response.extensions_mut().insert(Arc::new(self));
		response
	}
}
