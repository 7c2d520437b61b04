//! Following a request to its end.

use std::time::Instant;

use consilience_primitives::{
	manifest::TaskDetails, model::Task, request::Output, view::RequestState, RequestId,
};
use serde_json::{json, Value};

use super::{
	chain::{address, Chain, Request},
	csl, media, Format, Result,
};

/// An answer as JSON: text as it is, tensors in the form of the Open Inference Protocol.
pub(crate) fn output(output: &Output) -> Value {
	match output {
		Output::Text { text, .. } => String::from_utf8_lossy(text).into(),
		Output::Tensors(tensors) => {
			let outputs: Vec<_> = tensors
				.iter()
				.filter_map(|t| consilience_store::open_inference::from_tensor(t).ok())
				.collect();
			json!({ "outputs": outputs })
		}
		Output::Unanswerable(code) => json!({ "unanswerable": code, "reason": code.reason() }),
	}
}

/// The task's name as the OpenAI-like world writes it.
pub(crate) fn task(task: Task) -> Value {
	serde_json::to_value(task).unwrap_or_default()
}

/// Whether what stands as output was checked.
const fn answered(state: RequestState) -> bool {
	matches!(state, RequestState::Final | RequestState::Unanswerable)
}

/// Whether anybody but the executor measured the answer: nobody does where it was not drawn for a check, or on a chain with one
/// validator.
fn is_checked(request: &Request) -> bool {
	!(request.verifiers.is_empty() && request.jurors.is_empty())
}

/// A request as the last line of `infer` and `request watch`.
fn result(request: &Request, seconds: f64, finalized: bool) -> Value {
	let settled = |state| {
		(request.state == state)
			.then_some(request.settled_at)
			.flatten()
	};
	json!({
		"request": request.id,
		"task": task(request.input.task()),
		"model": request.model,
		"status": request.state,
		// Only what is final is shown as an answer.
		"output": request.output.as_ref().filter(|_| answered(request.state)).map(output),
		"executor": request.executor.as_ref().map(address),
		"verifiers": request.verifiers.iter().map(address).collect::<Vec<_>>(),
		"jurors": request.jurors.iter().map(address).collect::<Vec<_>>(),
		"checked": answered(request.state) && is_checked(request),
		"requested_block": request.requested_at,
		"provisional_block": request.provisional_at,
		"final_block": settled(RequestState::Final),
		"settled_block": request.settled_at,
		"finalized": finalized,
		"seconds": (seconds * 1_000.0).round() / 1_000.0,
		"paid": request.paid.to_string(),
		// Of what was paid.
		"surcharge": request.surcharge.to_string(),
		"refunded": request.refunded.to_string(),
	})
}

/// What a settled request has cost.
fn cost(request: &Request) -> String {
	if request.surcharge == 0 {
		return csl(request.paid);
	}
	format!(
		"{} ({} of it burned, as the surcharge)",
		csl(request.paid),
		csl(request.surcharge)
	)
}

/// One line of a request's life.
fn describe(request: &Request) -> String {
	let executor = request.executor.as_ref().map(address).unwrap_or_default();
	match request.state {
		RequestState::Requested if request.assigned_at.is_some() => {
			"the executor was late, another is drawn".into()
		}
		RequestState::Requested => "requested, an executor is to be drawn".into(),
		RequestState::Assigned => format!("assigned to {executor}"),
		RequestState::Provisional if request.appealable_until.is_some() => format!(
			"not drawn for a check: final after block {} if nobody appeals",
			request.appealable_until.unwrap_or_default()
		),
		RequestState::Provisional if request.verifiers.is_empty() => match &request.output {
			Some(Output::Text { text, .. }) => {
				format!("provisional answer: {:?}", String::from_utf8_lossy(text))
			}
			_ => "the executor is bound to its answer".into(),
		},
		RequestState::Provisional => format!(
			"being checked by {}",
			request
				.verifiers
				.iter()
				.map(address)
				.collect::<Vec<_>>()
				.join(", ")
		),
		RequestState::Disputed if request.jurors.is_empty() => {
			"disputed, a jury is to be drawn".into()
		}
		RequestState::Disputed => format!("disputed, a jury of {} measures", request.jurors.len()),
		RequestState::Final => format!(
			"final{}: {} paid, {} returned",
			if is_checked(request) {
				""
			} else {
				", checked by nobody"
			},
			cost(request),
			csl(request.refunded)
		),
		RequestState::Rejected => {
			format!("rejected by the jury: {} returned", csl(request.refunded))
		}
		RequestState::Expired => format!(
			"expired, not answered and checked in time: {} returned",
			csl(request.refunded)
		),
		RequestState::Cancelled if request.paid > 0 => format!(
			"cancelled: {} returned, {} of the surcharge burned",
			csl(request.refunded),
			csl(request.paid)
		),
		RequestState::Cancelled => format!("cancelled: {} returned", csl(request.refunded)),
		RequestState::Overturned => {
			"overturned: the answer was found false after it was final".into()
		}
		RequestState::Unanswerable => format!(
			"unanswerable: {}; {} paid for finding that out, {} returned",
			request
				.output
				.as_ref()
				.and_then(Output::unanswerable)
				.map_or("no honest machine can answer it", |code| code.reason()),
			cost(request),
			csl(request.refunded)
		),
	}
}

/// Follows a request block by block until it is settled in a finalised block. Succeeds only if it is final.
pub(crate) async fn until_settled(
	chain: &Chain,
	id: RequestId,
	task: Option<&TaskDetails>,
	format: Format,
	since: Instant,
) -> Result<()> {
	let request = follow(chain, id, task, format, since).await?;
	match request.state {
		RequestState::Final => Ok(()),
		_ => Err(format!("request {id}: {}", describe(&request))),
	}
}

/// Follows a request block by block until it is settled in a finalised block, and returns what became of it.
pub(crate) async fn follow(
	chain: &Chain,
	id: RequestId,
	task: Option<&TaskDetails>,
	format: Format,
	since: Instant,
) -> Result<Request> {
	let unknown = || {
		format!("request {id} is not on chain: it was never made, or was settled long ago and forgotten")
	};
	let (mut best, mut finalized) = (chain.heads(false).await?, chain.heads(true).await?);
	let mut last: Option<String> = None;
	let mut seconds: Option<f64> = None;
	let mut missing = 0;
	loop {
		let gone = || "the node went away".to_owned();
		tokio::select! {
			header = best.next() => {
				let header = header.ok_or_else(gone)?.map_err(|e| e.to_string())?;
				let head = chain.head(&header).await?;
				let Some(request) = chain.request(id, Some(head.hash)).await? else {
					// A reorganisation may take it away for a moment.
					missing += 1;
					if missing > 10 {
						return Err(unknown());
					}
					continue;
				};
				missing = 0;
				let line = describe(&request);
				if last.as_ref() != Some(&line) {
					if format.json {
						println!("{}", json!({
							"block": head.number,
							"request": id,
							"state": request.state,
							// A best block can still be undone.
							"finalized": false,
							"executor": request.executor.as_ref().map(address),
							"verifiers": request.verifiers.iter().map(address).collect::<Vec<_>>(),
						}));
					} else {
						let pending = if request.state.is_settled() {
							" (as soon as this block is finalised)"
						} else {
							""
						};
						println!("block {:>6}  request {id}  {line}{pending}", head.number);
					}
					last = Some(line);
				}
				if request.state.is_settled() {
					seconds.get_or_insert(since.elapsed().as_secs_f64());
				}
			},
			header = finalized.next() => {
				let header = header.ok_or_else(gone)?.map_err(|e| e.to_string())?;
				let head = chain.head(&header).await?;
				let Some(request) = chain.request(id, Some(head.hash)).await? else { continue };
				if !request.state.is_settled() {
					continue;
				}
				let seconds = seconds.unwrap_or_else(|| since.elapsed().as_secs_f64());
				let mut value = result(&request, seconds, true);
				let answer = request.output.as_ref().filter(|_| answered(request.state));
				let labels = answer.and_then(|answer| media::labels(task?, answer));
				if let Some(labels) = &labels {
					value["labels"] = media::json(labels);
				}
				format.print(&value, || match (&labels, answer) {
					(Some(labels), _) => format!("\n{}", media::people(labels)),
					(None, Some(answer)) => match output(answer) {
						Value::String(text) => format!("\n{text}"),
						other => format!("\n{other}"),
					},
					(None, None) => describe(&request),
				});
				return Ok(request);
			},
		}
	}
}
