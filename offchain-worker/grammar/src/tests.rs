//! What masks admit, and what is refused.

use std::{
	sync::Arc,
	time::{Duration, Instant},
};

use consilience_primitives::sampling::{
	Constraint, ConstraintForm, CONSTRAINT_RULES, MAX_CONSTRAINT,
};
use polkadot_sdk::sp_crypto_hashing::blake2_128;

use crate::{check, json, vocabulary, Error, Guide, Mask, Vocabulary};

const END: u32 = 300;

fn constraint(form: ConstraintForm, text: &str) -> Constraint {
	Constraint::new(form, text).unwrap()
}

fn schema(text: &str) -> Constraint {
	constraint(ConstraintForm::JsonSchema, text)
}

/// All bytes, some words, tokens that spell nothing, and an end.
fn words() -> Arc<Vocabulary> {
	let mut words: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
	let more = [
		"{\"", "\": ", "\", \"", "\"}", "age", "true", "false", ", ", "null", "ab", "10", "}}",
	];
	words.extend(more.iter().map(|w| w.as_bytes().to_vec()));
	words.resize(310, Vec::new());
	Arc::new(Vocabulary::new(&words, &[END, 305]).unwrap())
}

/// The answer in single bytes, or how many of them are admitted.
fn along(constraint: &Constraint, text: &str) -> Result<(), usize> {
	let tokens: Vec<u32> = text.bytes().map(Into::into).chain([END]).collect();
	let mut guide = Guide::new(&words(), constraint).map_err(|e| {
		eprintln!("{e}");
		usize::MAX
	})?;
	let masks = guide.along(&tokens, || true).map_err(|e| {
		eprintln!("{e}");
		usize::MAX
	})?;
	let said = masks
		.iter()
		.zip(&tokens)
		.take_while(|(m, t)| m.admits(**t))
		.count();
	if said == tokens.len() {
		Ok(())
	} else {
		Err(said)
	}
}

const PERSON: &str = r#"{"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}, "mood": {"enum": ["happy", "sad"]},
	"name": {"type": "string", "maxLength": 20}}, "required": ["age", "mood", "name"], "additionalProperties": false}"#;

#[test]
fn an_answer_follows_its_schema_to_the_end() {
	let person = schema(PERSON);
	let whole = r#"{"age": 36, "mood": "sad", "name": "Ada"}"#;
	assert_eq!(along(&person, whole), Ok(()));
	// Another type, a number out of range, a value that is not listed, a key that is missing or unknown, white space of one's own, more
	// than is asked for, and an end that comes before it may.
	for (text, admitted) in [
		(r#"{"age": "x""#, 8),
		(r#"{"age": 151"#, 10),
		(r#"{"age": 36, "mood": "mad"#, 21),
		(r#"{"age": 36, "mood": "sad"}"#, 25),
		(r#"{"age": 36, "size"#, 13),
		(r#"{"age":36"#, 7),
		("{\n", 1),
		(&format!("{whole}."), 41),
		(&whole[..40], 40),
		("", 0),
	] {
		assert_eq!(along(&person, text), Err(admitted), "{text}");
	}
}

#[test]
fn any_way_of_cutting_an_answer_into_tokens_is_admitted() {
	let words = words();
	let mut guide = Guide::new(&words, &schema(PERSON)).unwrap();
	let first = guide.mask().unwrap();
	assert_eq!(
		(first.admits(u32::from(b'{')), first.admits(256)),
		(true, true)
	);
	assert_eq!(first.count(), 2);
	guide.said(256);
	let key = guide.mask().unwrap();
	assert!(
		key.admits(u32::from(b'a')) && key.admits(260),
		"a letter, and the whole key"
	);
	assert!(!key.admits(261));
	// Tokens that spell nothing, those beyond the vocabulary, and the end are not.
	for token in [280, END, 305, 310, 9_999] {
		assert!(!key.admits(token), "{token}");
	}
}

#[test]
fn each_end_is_admitted_where_the_answer_is_whole() {
	let words = words();
	let mut guide = Guide::new(&words, &constraint(ConstraintForm::Regex, "(ab){1,2}")).unwrap();
	assert!(!guide.mask().unwrap().admits(END));
	guide.said(265);
	let mask = guide.mask().unwrap();
	assert!(mask.admits(END) && mask.admits(305) && mask.admits(265));
	guide.said(265);
	let mask = guide.mask().unwrap();
	assert_eq!(
		(mask.admits(END), mask.admits(305), mask.count()),
		(true, true, 2)
	);
}

/// The library keeps the order, and so do all that schemas go through.
#[test]
fn properties_come_in_the_order_in_which_the_schema_lists_them() {
	let listed = schema(
		r#"{"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}}, "required": ["a", "z"]}"#,
	);
	assert_eq!(along(&listed, r#"{"z": null, "a": null}"#), Ok(()));
	assert_eq!(along(&listed, r#"{"a"#), Err(2));
}

#[test]
fn who_leaves_the_constraint_does_not_come_back() {
	let words = words();
	let mut guide = Guide::new(&words, &schema(PERSON)).unwrap();
	guide.said(u32::from(b'x'));
	assert!(guide.mask().unwrap_err().to_string().contains("left"));
	guide.said(u32::from(b'{'));
	assert!(guide.mask().is_err());
	let masks = Guide::new(&words, &schema(PERSON))
		.unwrap()
		.along(&[256, 261, 260], || true);
	assert_eq!(
		masks.unwrap().len(),
		2,
		"the mask that does not admit it is the last"
	);
}

#[test]
fn other_forms() {
	let regex = |text: &str| constraint(ConstraintForm::Regex, text);
	assert_eq!(along(&regex("[0-9]{3}-[0-9]{4}"), "555-1234"), Ok(()));
	assert_eq!(along(&regex("[0-9]{3}-[0-9]{4}"), "555-12"), Err(6));
	let lark = constraint(
		ConstraintForm::Lark,
		"start: \"a\" b+\nb: \"b\" | \"(\" b \")\"",
	);
	assert_eq!(along(&lark, "ab(b)((b))"), Ok(()));
	assert_eq!(along(&lark, "ab(b))"), Err(5));
	assert_eq!(
		along(
			&schema(json::OBJECT),
			r#"{"a": [1, null, {"b": "c"}], "d": -1.5e3}"#
		),
		Ok(())
	);
	assert_eq!(along(&schema(json::OBJECT), "[1]"), Err(0));
}

fn refused(constraint: &Constraint) -> String {
	let from = Instant::now();
	let Err(Error::Refused(refused)) = check(constraint) else {
		panic!("it is refused")
	};
	let took = from.elapsed();
	assert!(took.as_secs() < 10, "{took:?}");
	assert!(!refused.is_empty() && refused.len() < 1_300 && !refused.contains('\n'));
	refused
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_reason() {
	for (text, why) in [
		("{\"type\":", "not JSON"),
		("[1]", "JSON object"),
		("true", "JSON object"),
		(r#"{"type": "object", "if": {}, "then": {}}"#, "\"if\""),
		(
			r#"{"type": "object", "dependentRequired": {"a": ["b"]}}"#,
			"dependentRequired",
		),
		(r#"{"type": "array", "uniqueItems": true}"#, "uniqueItems"),
		(r#"{"type": "string", "format": "nonsense"}"#, "nonsense"),
		(r#"{"$ref": "http://example.org/x.json"}"#, "$ref"),
		(r##"{"$ref": "#/$defs/none"}"##, "none"),
		(r#"{"type": "string", "pattern": "("}"#, ""),
		(r#"{"enum": []}"#, "Unsatisfiable"),
		(
			r#"{"type": "integer", "minimum": 5, "maximum": 4}"#,
			"minimum",
		),
		(r##"{"$ref": "#"}"##, "ends with itself"),
		(r#"{"x-guidance": {"lenient": true}}"#, "x-guidance"),
	] {
		let said = refused(&schema(text));
		assert!(said.contains(why), "{text}: {said}");
	}
	assert!(refused(&constraint(ConstraintForm::Regex, "(")).len() > 3);
	assert!(refused(&constraint(ConstraintForm::Lark, "start: nothing")).contains("nothing"));
	let other = Constraint {
		rules: CONSTRAINT_RULES + 1,
		..schema("{}")
	};
	assert!(refused(&other).contains("rules 2"));
}

/// Texts of as many bytes as there may be, made to cost as much as they can.
fn hostile() -> Vec<(&'static str, Constraint)> {
	let most = MAX_CONSTRAINT as usize;
	let fill = |unit: &dyn Fn(usize) -> String, around: (&str, &str), between: &str| {
		let mut text = String::from(around.0);
		for i in 0.. {
			let next = unit(i);
			if text.len() + next.len() + between.len() + around.1.len() > most {
				break;
			}
			if i > 0 {
				text += between;
			}
			text += &next;
		}
		text + around.1
	};
	let lark = |text: String| constraint(ConstraintForm::Lark, &text);
	let regex = |text: &str| constraint(ConstraintForm::Regex, text);
	let json = |text: String| schema(&text);
	let nested =
		|open: &str, close: &str, n: usize| format!("{}{}{}", open.repeat(n), "1", close.repeat(n));
	vec![
		("all of any of", json(fill(&|i| format!(r#"{{"anyOf":[{{"properties":{{"a{i}":{{}}}}}},{{"properties":{{"b{i}":{{}}}}}}]}}"#), (r#"{"allOf":["#, "]}"), ","))),
		("many properties", json(fill(&|i| format!(r#""p{i}":{{}}"#), (r#"{"type":"object","properties":{"#, "}}"), ","))),
		("many required", json(format!(r#"{{"type":"object","required":[{}]}}"#, fill(&|i| format!("\"p{i}\""), ("", ""), ",").chars().take(6_000).collect::<String>().rsplit_once(',').unwrap().0))),
		("many words", json(fill(&|i| format!("\"w{i}\""), (r#"{"enum":["#, "]}"), ","))),
		("counted items", json(r#"{"type":"array","items":{"type":"array","items":{"type":"array","minItems":1000,"maxItems":100000},"minItems":1000,"maxItems":100000},"minItems":1000,"maxItems":1000000}"#.into())),
		("counted letters", json(r#"{"type":"string","minLength":1000000,"maxLength":10000000}"#.into())),
		("counted properties", json(r#"{"type":"object","minProperties":100000,"maxProperties":1000000}"#.into())),
		("a chain of definitions", json(fill(&|i| format!(r##""d{i}":{{"$ref":"#/$defs/d{}"}}"##, i + 1), (r##"{"$ref":"#/$defs/d0","$defs":{"##, "}}"), ","))),
		("nested schemas", json(nested(r#"{"items":"#, "}", 120).replace('1', "{}"))),
		("nested choices", json(nested(r#"{"anyOf":[{"type":"string"},"#, "]}", 100).replace('1', "{}"))),
		("counted groups", json(r#"{"type":"string","pattern":"^((a{1,100}b{1,100}){1,100}c){1,100}$"}"#.into())),
		("stars of stars", json(r#"{"type":"string","pattern":"^(.*a.{20})(.*b.{20})*(x+x+)+y.*z.{0,1000}$"}"#.into())),
		("a tail that grows", regex("(.|\n)*a(.|\n){60}")),
		("two tails", regex("((.|\n)*a(.|\n){12})&((.|\n)*b(.|\n){13})")),
		("counted letters of any script", regex(r"(\w{1000}\d{1000}){50}")),
		("not that", lark("start: T\nT: /(.|\\n)*/ & ~/(.|\\n)*a(.|\\n){30}b(.|\\n)*/".into())),
		("brackets", regex(&nested("(", ")", 4_000))),
		("brackets of a grammar", lark(format!("start: {}", nested("(", ")", 4_000).replace('1', "\"a\"")))),
		("a chain of rules", lark(fill(&|i| format!("r{i}: r{}", i + 1), ("start: r0\n", ""), "\n") + "")),
		("a chain of words", lark(fill(&|i| format!("T{i}: T{} \"a\"", i + 1), ("start: T0\n", ""), "\n"))),
		("ambiguity", lark("start: a\na: a a | \"x\" | \"\"".into())),
		("more ambiguity", lark("start: a\na: a a a a | b b b b | \"x\"\nb: a b | a a | \"\" | \"x\" a".into())),
		("many counted rules", lark("start: a{1,1000}\na: b{1,1000}\nb: c{1,1000}\nc: \"x\"{1,1000} | d\nd: a{0,1000}".into())),
		("a negation of letters", regex(r"[^a]{1,100000}")),
		("nested lists", lark("start: a\na: b+\nb: c+\nc: d+\nd: /[a-z ]/".into())),
		("lists ten deep", lark(format!("start: r0+\n{}r10: /[a-z]/", (0..10).map(|i| format!("r{i}: r{}+ | r{}\n", i + 1, i + 1)).collect::<String>()))),
		("letters that may be left out", lark(format!("start: {}\nd: /[a-z ]/", "d? ".repeat(1_500)))),
		("many ways to begin", lark(fill(&|i| format!("/[a-z]/ \"{i}\""), ("start: x*\nx: ", ""), " | "))),
		("words twice as long each", lark(format!("start: T0\n{}T40: \"a\"", (0..40).map(|i| format!("T{i}: T{} T{}\n", i + 1, i + 1)).collect::<String>()))),
		("multiples", json(r#"{"type":"array","items":{"type":"integer","multipleOf":99991,"minimum":-123456789,"maximum":987654321}}"#.into())),
		("long", regex(&"a?".repeat(most / 2))),
		("optional and wanted", regex(&("a?".repeat(1_000) + &"a".repeat(1_000)))),
	]
}

/// No text makes this descend through its stack, run for long, or lose its memory: it is refused, or its masks cost little. What they cost is
/// counted, so that a busy machine does not make this fail; ADR 33 has the times.
#[test]
fn hostile_constraints_cost_little() {
	crate::guide::on_stack(all_hostile).unwrap();
}

fn all_hostile() {
	let words = words();
	let mut refusals = 0;
	for (name, constraint) in hostile() {
		let from = Instant::now();
		let checked = check(&constraint);
		let read = from.elapsed();
		assert!(read.as_secs() < 20, "{name}: {read:?}");
		let most = crate::limits();
		let mut reader = match words.read(&constraint) {
			Ok(reader) => reader,
			Err(why) => {
				eprintln!("{name}: refused in {read:?}: {why}");
				assert_eq!(checked, Err(why), "{name}: seen at the border, too");
				refusals += 1;
				continue;
			}
		};
		// Says what there is most of, as a model may.
		let (mut slowest, mut count, mut end) = (Duration::ZERO, 0u32, "the last was said");
		for i in 0..300u32 {
			let from = Instant::now();
			let mask = match reader.mask() {
				Ok(mask) => mask,
				Err(why) => {
					eprintln!("{name}: {why}");
					end = "refused";
					refusals += 1;
					break;
				}
			};
			slowest = slowest.max(from.elapsed());
			let cost = reader.cost();
			assert!(cost.all_items <= most.step_max_items, "{name}: {cost}");
			assert!(cost.lexer_cost <= most.step_lexer_fuel, "{name}: {cost}");
			let said = [u32::from(b'a'), u32::from(b'x'), 256]
				.into_iter()
				.chain((0..300).map(|n| (n + i * 37) % 300));
			let Some(token) = said.into_iter().find(|t| mask.admits(*t)) else {
				end = "it is over";
				break;
			};
			count += 1;
			reader.said(token);
		}
		eprintln!("{name}: checked {checked:?} in {read:?}, {count} masks, the slowest in {slowest:?}; {end}");
		assert!(slowest.as_secs() < 5, "{name}: {slowest:?}");
	}
	assert!(refusals > 15, "{refusals}");
}

/// What is open at every place where an `a` was said would be closed by one `z`, all at once: a step of a million items is counted when it is done.
#[test]
fn a_rule_does_not_end_with_itself() {
	let lark = |text: &str| constraint(ConstraintForm::Lark, text);
	let alternatives: Vec<_> = (0..200).map(|i| format!("p \"{i}\"")).collect();
	let many = format!(
		"start: p\np: \"a\" p | q | {}\nq: \"q\" \"z\"",
		alternatives.join(" | ")
	);
	for text in [
		&many,
		"start: \"a\" start | \"b\"",
		"start: a\na: \"x\" b\nb: \"y\" c\nc: \"z\" a | \"w\"",
		// By what may be empty.
		"start: a\na: \"x\" a b* | \"y\"\nb: \"b\"",
		"start: a\na: (b*)* \"c\"\nb: \"b\"",
		"start: a\na: a a | \"x\"",
	] {
		let said = refused(&lark(text));
		assert!(said.contains("ends with itself"), "{text}: {said}");
	}
	// Lists, what is closed by something of its own, and schemas that hold themselves are taken.
	let lists =
		lark("start: list | a\nlist: list \",\" b | b\nb: \"(\" list \")\" | \"x\"\na: \"a\"*");
	assert_eq!(along(&lists, "x,(x,(x)),x"), Ok(()));
	let tree = r##"{"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}}}"##;
	assert_eq!(along(&schema(tree), "[[null], [[]]]"), Ok(()));
	assert!(
		refused(&lark(
			"start: a::0\na::_: \"x\" a::incr(_) %if lt(_, 3) | \"y\""
		))
		.len() > 3
	);
}

/// As many tools to choose from as a constraint has bytes for, and as many properties that may be left out as most schemas have.
#[test]
fn large_constraints_of_people_are_taken() {
	let call = |i: usize| {
		format!("call_{i}: %json {{\"properties\":{{\"name\":{{\"const\":\"t{i}\"}}}},\"required\":[\"name\"]}}\n")
	};
	let tools: String = (0..90).map(call).collect();
	let names: Vec<_> = (0..90).map(|i| format!("call_{i}")).collect();
	let names = names.join("|");
	for start in [
		"start: OPEN call END (\"\\n\" OPEN call END)*",
		"start: TEXT | (BEGIN call END)+ TEXT",
	] {
		let text = format!(
			"{start}\nOPEN: \"<call>\\n\"\nEND: \"\\n</call>\"\nBEGIN: TEXT OPEN\nTEXT: /(.|\\n)*/ & ~/(.|\\n)*<call>(.|\\n)*/\ncall: {names}\n{tools}"
		);
		let answer = "<call>\n{\"name\":\"t77\"}\n</call>";
		let all = constraint(ConstraintForm::Lark, &text);
		assert_eq!(along(&all, answer), Ok(()), "{start}");
	}
	let properties: Vec<_> = (0..200).map(|i| format!("\"p{i}\":{{}}")).collect();
	let many = schema(&format!(
		"{{\"type\":\"object\",\"properties\":{{{}}}}}",
		properties.join(",")
	));
	assert_eq!(along(&many, r#"{"p3": 1, "p199": [], "q": null}"#), Ok(()));
}

/// Pinned: whatever changes a mask changes which answers are right, and takes another number of rules.
#[test]
fn the_masks_are_pinned() {
	let mut digests = Vec::new();
	for (constraint, text) in [
		(schema(json::OBJECT), r#"{"name": "Ada é", "tags": ["x", 12.5e-3, null, {"deep": true}]}"#),
		(schema(PERSON), r#"{"age": 136, "mood": "happy", "name": "Ada"}"#),
		(schema(r#"{"type": "object", "properties": {"id": {"type": "string", "pattern": "^[a-z]{3,10}-[0-9]{4}$"},
			"n": {"type": "number", "minimum": -2.5, "exclusiveMaximum": 100, "multipleOf": 0.5}, "when": {"type": "string", "format": "date-time"},
			"who": {"type": "string", "format": "email"}}, "required": ["id", "n", "when", "who"]}"#), r#"{"id": "abc-1234", "n": 12.5, "when": "2026-11-30T17:24:01Z", "who": "a@b.org", "more": []}"#),
		(constraint(ConstraintForm::Regex, r"(\w+ ){3}[^\s]{2,5}"), "eins två ॐ x1.y"),
		(constraint(ConstraintForm::Lark, "start: TEXT | (PRE call POST)+ TEXT\nPRE: TEXT \"<tool_call>\"\nPOST: \"</tool_call>\"\n\
			TEXT: /(.|\\n)*/ & ~/(.|\\n)*<tool_call>(.|\\n)*/\ncall: %json {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"boolean\"}}}"),
			"I look: <tool_call>{\"a\": true}</tool_call> <tool"),
	] {
		let tokens: Vec<u32> = text.bytes().map(Into::into).chain([END]).collect();
		let masks = Guide::new(&words(), &constraint).unwrap().along(&tokens, || true).unwrap();
		assert!(masks.last().unwrap().admits(END), "{text}: {} of {}", masks.len(), tokens.len());
		let bytes: Vec<u8> = masks.iter().flat_map(|m| m.bits()).flat_map(|bits| bits.to_le_bytes()).collect();
		digests.push(blake2_128(&bytes)[..4].to_vec());
	}
	let digests: Vec<u32> = digests
		.iter()
		.map(|d| u32::from_be_bytes(d[..].try_into().unwrap()))
		.collect();
	assert_eq!(
		(CONSTRAINT_RULES, &digests[..]),
		(1, &PINNED[..]),
		"{digests:#010x?}"
	);
}

const PINNED: [u32; 5] = [
	0xddf9_69b3,
	0xa42f_8e51,
	0x4c68_e57f,
	0x5c45_a567,
	0xfa5b_ef86,
];

#[test]
fn a_mask_leaves_what_it_admits() {
	let mask = Mask::of(130, &[0, 65, 129]);
	let mut logits: Vec<f32> = (0..140).map(|i| i as f32).collect();
	mask.apply(&mut logits);
	let left: Vec<f32> = logits
		.iter()
		.copied()
		.filter(|l| *l > f32::NEG_INFINITY)
		.collect();
	assert_eq!(left, [0.0, 65.0, 129.0]);
	assert_eq!(mask.count(), 3);
	assert!(!mask.admits(128) && !mask.admits(1_000));
	assert!(vocabulary::bytes().read(&schema("{}")).is_ok());
}
