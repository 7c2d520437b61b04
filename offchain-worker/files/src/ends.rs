//! Tokens that end a turn of a chat.

/// What publishers call the token that ends a turn, or the last of an answer.
const ENDS: [&str; 13] = [
	"<|im_end|>",
	"<|eot_id|>",
	"<|eot|>",
	"<end_of_turn>",
	"<turn|>",
	"<|end|>",
	"<|return|>",
	"<|call|>",
	"<|endoftext|>",
	"<|end_of_text|>",
	"<|end_of_turn|>",
	"<|END_OF_TURN_TOKEN|>",
	"<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// Tokens that end a turn as this chat template writes it. Publishers often declare only what ended a training text, and a chat
/// would go on past its turn.
pub fn turn_ends(template: &str) -> Vec<&'static str> {
	let uses = |token: &&str| template.contains(*token);
	// Where answers end with a token of their own, the end of a message is none of the answer.
	let own = ["<|return|>"].iter().any(uses);
	ENDS.into_iter()
		.filter(uses)
		.filter(|token| !(own && *token == "<|end|>"))
		.collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_template_shows_its_ends() {
		assert_eq!(turn_ends("<|im_start|>{{ x }}<|im_end|>"), ["<|im_end|>"]);
		assert_eq!(
			turn_ends("<start_of_turn>model {{ x }}<end_of_turn>"),
			["<end_of_turn>"]
		);
		assert_eq!(
			turn_ends("<|user|>x<|end|><|endoftext|>"),
			["<|end|>", "<|endoftext|>"]
		);
		assert_eq!(
			turn_ends("analysis<|message|>x<|end|>final<|message|>y<|return|>"),
			["<|return|>"]
		);
		assert!(turn_ends("{{ messages }}").is_empty());
	}
}
