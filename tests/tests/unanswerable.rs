//! What nobody can answer, asked of a network of four: the members are paid for finding that out, and none of them is the worse for it.

use std::collections::BTreeSet;

use consilience_primitives::request::{Input, Message, Prompt, Role, Sampling, Unanswerable};
use consilience_runtime::UNIT;
use consilience_tests::{infer, picky, quick, tiny_model, Network, RequestEvent, Story};

const REQUESTER: &str = "//Ferdie";

/// A conversation that the model's side begins.
fn begun_by_the_assistant(n: usize) -> Input {
	let message = Message {
		role: Role::Assistant,
		content: format!("t{n} t7")
			.into_bytes()
			.try_into()
			.expect("the text is short"),
	};
	Input::TextGeneration {
		prompt: Prompt::Chat(vec![message].try_into().expect("one message")),
		sampling: Sampling {
			max_tokens: 8,
			..Default::default()
		},
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn five_questions_that_nobody_can_answer_are_paid_and_strike_nobody() {
	let network = Network::start(&[]).await;
	let folder = network.folder.path();
	let model = picky(quick(tiny_model(folder, "picky")));
	let model = network.bring_up(&model, &[0, 1, 2, 3]).await;
	let client = &network.nodes[0].client;
	let id = model.parse().expect("an id is a hash");
	let questions = (5..10).map(begun_by_the_assistant).collect();
	let (mut story, refused) = Story::ask_at_once(client, id, &[(REQUESTER, questions)], 2).await;
	assert_eq!((story.requests.len(), refused), (5, 0));
	story.to_the_end(client).await;

	let ends = story.all(|event| match event {
		RequestEvent::RequestUnanswerable {
			request,
			code,
			executor,
			verifiers,
			paid,
			..
		} => Some((
			*request,
			(*code, verifiers.len(), *paid > 0, *paid < UNIT),
			[&[executor.clone()][..], verifiers].concat(),
		)),
		_ => None,
	});
	let ended: BTreeSet<_> = ends.iter().map(|(request, ..)| *request).collect();
	assert_eq!(ended, story.requests.iter().copied().collect());
	let expected = (Unanswerable::TemplateRefused, 2, true, true);
	for (request, found, _) in &ends {
		assert_eq!(*found, expected, "request {request}");
	}
	let payments = story.all(|event| match event {
		RequestEvent::Paid { request, who, .. } => Some((*request, who.clone())),
		_ => None,
	});
	for (request, _, members) in &ends {
		for member in members {
			let paid = payments.contains(&(*request, member.clone()));
			assert!(paid, "request {request}: {member} is not paid");
		}
	}
	let worse = story.all(|event| match event {
		RequestEvent::OffenceReported { .. }
		| RequestEvent::ExecutorReplaced { .. }
		| RequestEvent::VerifierReplaced { .. }
		| RequestEvent::RequestDisputed { .. }
		| RequestEvent::RequestExpired { .. } => Some(format!("{event:?}")),
		_ => None,
	});
	assert_eq!(worse, [""; 0]);

	// All of them serve the model as before, and answer the next.
	let at = client
		.hash(story.events.last().expect("much has happened").0)
		.await;
	let struck = client.entries("Inference", "Strikes", at).await;
	assert_eq!(struck, 0, "somebody was struck");
	let options = ["--prompt", "t5 t6", "--max-tokens", "4"];
	let answer = infer(&network.nodes[1], REQUESTER, &model, &options)
		.await
		.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
	assert_eq!(answer.committee().len(), 3);
}
