//! Prompts as Hugging Face's library and its tokenizers make them.

use super::template::Template;

/// A conversation with all that templates stumble over.
fn conversation() -> Vec<(&'static str, String)> {
	[
		("system", "Be terse."),
		("user", " Hi \"<there>\" é\n"),
		("assistant", "Ok."),
		("user", "Bye's"),
	]
	.map(|(role, content)| (role, content.to_owned()))
	.into()
}

fn render(source: &str) -> Result<String, crate::EngineError> {
	let template = Template::new(source.into(), Some("<s>".into()), Some("</s>".into()))?;
	let prompted = template.render(&conversation(), &Default::default())?;
	Ok(prompted.text)
}

/// Templates, and what `transformers` 5.24 with `jinja2` 3.1 makes of the conversation; none where it fails.
#[rustfmt::skip]
const RENDERED: &[(&str, Option<&str>)] = &[
	("a\n{% if true %}\n  b\n  {% endif %}\nc\n", Some("a\n  b\nc")),
	("{% for m in messages %}\r\n{{ m.role }}\r\n{% endfor %}\r\nend\r\n", Some("system\nuser\nassistant\nuser\nend")),
	("x\n\n", Some("x\n")),
	("  {%- if true -%}  y  {%- endif +%}  z", Some("y  z")),
	("{# note {% if %} #}q", Some("q")),
	("{% raw %}{% generation %}{{ x }}{% endraw %}", Some("{% generation %}{{ x }}")),
	("{{ tools is none }} {{ tools is defined }} {{ documents is none }} {{ custom_tools is defined }} {{ enable_thinking is defined }}", Some("True True True False False")),
	("{% if tools is iterable and tools | length > 0 %}T{% endif %}|{{ nothing }}|{{ nothing is iterable }}|{{ nothing|length }}", Some("||True|0")),
	("{% for x in nothing %}a{% else %}none{% endfor %}", Some("none")),
	("{{ nothing.attribute }}", None),
	("{{ nothing + 'x' }}", None),
	("{{ 'a' if false }}|", Some("|")),
	("{{ strftime_is is defined }}", Some("False")),
	("{{ bos_token }}{{ eos_token }}{{ unk_token is defined }}{{ pad_token }}", Some("<s></s>False")),
	("{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role }},{% endfor %}", Some("system,user,")),
	("{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }},{% endfor %}", Some("0TrueFalse44,2FalseFalse42,")),
	("{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}{{ loop.nextitem is defined }};{% endfor %}", Some("-True;systemTrue;userTrue;assistantFalse;")),
	("{% for m in messages[1:] %}{{ m['role'] }},{% endfor %}{{ messages[-1].content }}{{ messages[::-1][0].role }}{{ messages[:2]|length }}", Some("user,assistant,user,Bye'suser2")),
	("{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.role }} {% endfor %}", Some("1user 2assistant 3user ")),
	("{% for a, b in messages[0].items() %}{{ a }}={{ b }};{% endfor %}", Some("role=system;content=Be terse.;")),
	("{% for a, b in messages[0]|items %}{{ a }}={{ b }};{% endfor %}", Some("role=system;content=Be terse.;")),
	("{% for k in messages[0] %}{{ k }},{% endfor %}", Some("role,content,")),
	("{{ messages[0].keys()|list }}", Some("['role', 'content']")),
	("{{ messages[0].get('tool_calls') }} {{ messages[0].get('x', 'd') }}", Some("None d")),
	("{{ messages[0].tool_calls is defined }} {{ 'role' in messages[0] }} {{ messages[0]['x'] is defined }} {{ messages[0].x is not none }}", Some("False True False True")),
	("{% set ns = namespace(a=1, found=false) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.a = ns.a + loop.index %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.a }} {{ ns.found }}", Some("7 True")),
	("{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{% endfor %}{{ x }}", Some("1")),
	("{% for m in messages %}{%- if m.role == 'assistant' %}{%- generation -%} {{ m.content }} {%- endgeneration -%}{% else %}{{ m.role }}{% endif %}{% endfor %}", Some("systemuserOk.user")),
	("{% set y = 1 %}{% generation %}{% set y = 2 %}{{ y }}{% endgeneration %}{{ y }}", Some("21")),
	("{{ '{% generation %}' }}", Some("{% generation %}")),
	("{% generation %}\nline\n{% endgeneration %}\nafter", Some("line\nafter")),
	("{{ true }} {{ none }} {{ 1.0 }} {{ 1e20 }} {{ 0.00001 }} {{ 3 }} {{ [1, 'a', none, true, \"it's\"] }} {{ {'a': 1.5, 'b': [{}]} }}", Some("True None 1.0 1e+20 1e-05 3 [1, 'a', None, True, \"it's\"] {'a': 1.5, 'b': [{}]}")),
	("{{ messages[0] }}", Some("{'role': 'system', 'content': 'Be terse.'}")),
	("{{ (1, 2) | list }}", Some("[1, 2]")),
	("{{ 1e16 }} {{ 123456789012345.0 }} {{ 0.0001 }} {{ 1.5e-7 }}", Some("1e+16 123456789012345.0 0.0001 1.5e-07")),
	("{{ 'a' ~ 1 ~ 'b' }} {{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 3 }} {{ 7 / 2 }} {{ 'ab' * 2 }}", Some("a1b 3 1 8 3.5 abab")),
	("{{ none | string }}{{ true | string }}{{ 'x' | string }}", Some("NoneTruex")),
	("{{ 'a' is string }} {{ messages is string }} {{ messages is iterable }} {{ 'a' is iterable }} {{ messages[0] is mapping }} {{ messages is mapping }} {{ none is iterable }} {{ 'a' is sequence }} {{ messages is sequence }} {{ 3 is number }} {{ true is boolean }} {{ true is number }} {{ 3 is integer }} {{ 3.5 is float }} {{ 4 is divisibleby 2 }} {{ 'x' is in ['x'] }} {{ 3 is odd }}", Some("True False True True True False False True True True True True True True True True True")),
	("{{ true is true }} {{ false is false }} {{ 1 is eq 1 }} {{ 'a' is not string }} {{ none is none }} {{ messages is callable }}", Some("True True True False True False")),
	("{{ messages | tojson }}", Some("[{\"role\": \"system\", \"content\": \"Be terse.\"}, {\"role\": \"user\", \"content\": \" Hi \\\"<there>\\\" é\\n\"}, {\"role\": \"assistant\", \"content\": \"Ok.\"}, {\"role\": \"user\", \"content\": \"Bye's\"}]")),
	("{{ messages[1] | tojson(indent=2) }}", Some("{\n  \"role\": \"user\",\n  \"content\": \" Hi \\\"<there>\\\" é\\n\"\n}")),
	("{{ messages[1] | tojson(ensure_ascii=true) }}", Some("{\"role\": \"user\", \"content\": \" Hi \\\"<there>\\\" \\u00e9\\n\"}")),
	("{{ {'b': 1, 'a': [true, none, 1.0, 1e20, -0.5]} | tojson(sort_keys=true) }}", Some("{\"a\": [true, null, 1.0, 1e+20, -0.5], \"b\": 1}")),
	("{{ {'b': 1, 'a': {}} | tojson(separators=(',', ':')) }}", Some("{\"b\":1,\"a\":{}}")),
	("{{ {'b': [1, 2], 'a': [], 'c': {}} | tojson(indent=4, separators=(' ;', ' = ')) }}", Some("{\n    \"b\" = [\n        1 ;\n        2\n    ] ;\n    \"a\" = [] ;\n    \"c\" = {}\n}")),
	("{{ [1, [2, {'x': 3}]] | tojson(indent=1) }}", Some("[\n 1,\n [\n  2,\n  {\n   \"x\": 3\n  }\n ]\n]")),
	("{{ '\\t\\\"\\\\/<>&\\u007f\\u0001😀 \\b' | tojson }} {{ '😀é\\u007f' | tojson(true) }}", Some("\"\\t\\\"\\\\/<>&\u{7f}\\u0001😀 \\b\" \"\\ud83d\\ude00\\u00e9\\u007f\"")),
	("{{ 5 | tojson }}{{ none | tojson }}{{ 'x'|tojson }}", Some("5null\"x\"")),
	("{{ {1: 'a', true: 'b', none: 'c', 2.5: 'd'} | tojson }}", Some("{\"1\": \"b\", \"null\": \"c\", \"2.5\": \"d\"}")),
	("{{ nothing | tojson }}", None),
	("{{ messages[0] | tojson(indent=0) }}", Some("{\n\"role\": \"system\",\n\"content\": \"Be terse.\"\n}")),
	("{{ {'name': 'f', 'parameters': {'type': 'object'}} | tojson(false, 2) }}", Some("{\n  \"name\": \"f\",\n  \"parameters\": {\n    \"type\": \"object\"\n  }\n}")),
	("{{ [1] | tojson(indent='--') }}", Some("[\n--1\n]")),
	("{{ ' a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ '\\x1c a\\x1f'.strip() }}|{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}", Some("a b|a|a | a|a|a|a")),
	("{{ 'a</think>b'.split('</think>')[-1] }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b c '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a,b'.partition(',') }} {{ 'a'.partition(',')|list }} {{ 'a,b,c'.rpartition(',')[0] }}", Some("b ['a', 'b,c'] ['a', 'b', 'c'] ['a', 'b c '] ['a,b', 'c'] ('a', ',', 'b') ['a', '', ''] a,b")),
	("{{ 'abc'.startswith('a') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('c') }} {{ 'abc'.upper() }} {{ 'ABC'.lower() }} {{ 'aXa'.replace('a', 'b', 1) }} {{ 'hello world'.title() }} {{ 'hELLO'.capitalize() }} {{ 'abab'.count('ab') }} {{ 'éabc'.find('b') }} {{ 'abc'.find('z') }} {{ 'éabcb'.rfind('b') }} {{ 'éb'.index('b') }}", Some("True True True ABC abc bXa Hello World Hello 2 2 -1 4 1")),
	("{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'a\\nb\\r\\nc'.splitlines() }} {{ 'a\\nb\\n'.splitlines(true) }} {{ '7'.zfill(3) }} {{ '-7'.zfill(3) }} {{ ', '.join(['a', 'b']) }} {{ '{} {}'.format(1, 'a') }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'a'.isalpha() }}", Some("x x ['a', 'b', 'c'] ['a\\n', 'b\\n'] 007 -07 a, b 1 a True True True")),
	("{{ 'abcdef'[1:3] }} {{ 'abcdef'[::-1] }} {{ 'abcdef'[-2:] }} {{ 'abc'[0] }} {{ 'abc'|length }} {{ 'a' in 'abc' }} {{ 'z' not in 'abc' }} {{ 'é'|upper }}", Some("bc fedcba ef a 3 True True É")),
	("{{ messages | map(attribute='role') | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }} {{ messages | selectattr('role', '==', 'system') | first }}", Some("['system', 'user', 'assistant', 'user'] 2 Be terse.|Ok. {'role': 'system', 'content': 'Be terse.'}")),
	("{{ ['b', 'a'] | sort | join(',') }} {{ [1, 2, 3] | sum }} {{ [3, 1] | max }} {{ [1, 1, 2] | unique | list }} {{ 'abc' | first }}{{ 'abc' | last }} {{ 'a b' | replace(' ', '_') }} {{ 'x' | default('y') }} {{ nothing | default('y') }} {{ none | default('y') }} {{ '' | default('y', true) }} {{ 3.7 | int }} {{ '3' | int }} {{ 3.456 | round(1) }} {{ -3 | abs }} {{ 'a\\nb' | indent(2) }} {{ 'aB' | lower }} {{ [1, 2] | reverse | list }} {{ {'b': 1, 'a': 2} | dictsort }}", Some("a,b 6 3 [1, 2] ac a_b x y None y 3 3 3.5 3 a\n  b ab [2, 1] [('a', 2), ('b', 1)]")),
	("{{ '%s and %s' | format('a', 3) }} {{ '%s-%d' % ('a', 3) }}", Some("a and 3 a-3")),
	("{{ [1,2,3] | batch(2) | list }} {{ 'a' | list }} {{ dict(a=1, b='x') }} {{ 'abc' | reverse }} {{ 'x' | safe }} {{ '<' | escape }} {{ 'hello wor' | wordcount }}", Some("[[1, 2], [3]] ['a'] {'a': 1, 'b': 'x'} cba x &lt; 2")),
	("{{ [[1, 2], [3]] | sum(start=[]) }}", Some("[1, 2, 3]")),
	("{{ messages | groupby('role') | length }}", Some("3")),
	("{% macro say(x, y='d') %}[{{ x }}:{{ y }}]{% endmacro %}{{ say('a') }}{{ say('b', y='c') }}", Some("[a:d][b:c]")),
	("{% set block %}a{{ 1 }}{% endset %}{{ block }}{{ block is string }}", Some("a1True")),
	("{% filter upper %}abc{% endfilter %}", Some("ABC")),
	("{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in{% endcall %}", Some("<in>")),
	("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}", Some("3")),
	("{% set a, b = 1, 2 %}{{ b }}{{ a }}", Some("21")),
	("{{ range(3) | list }} {{ range(1, 6, 2) | list }} {{ (range(3)) is iterable }}", Some("[0, 1, 2] [1, 3, 5] True")),
	("{{ 1 if messages|length > 2 else 2 }} {{ not true }} {{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ (1, 2) == (1, 2) }} {{ [1] + [2] }} {{ none == none }} {{ true and 'x' }} {{ '' or 'y' }}", Some("1 False True True True True [1, 2] True x y")),
	("{{ raise_exception('no ' + messages[0].role) }}", None),
	("{{ messages.append(1) }}", None),
	("{{ messages | foo }}", None),
	("{{ foo() }}", None),
	("{{ none + 'a' }}", None),
	("{{ 'a' + 1 }}", None),
	("{{ messages[9].role }}", None),
	("{{ messages[9] }}|", Some("|")),
	("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{{ system_message }}{{ loop_messages | length }}", Some("Be terse.3")),
	("{%- for m in messages -%}\n  {{- '<|' + m['role'] + '|>\\n' + m['content'] | trim + '<|end|>\\n' -}}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n  {{- '<|assistant|>\\n' -}}\n{%- endif -%}", Some("<|system|>\nBe terse.<|end|>\n<|user|>\nHi \"<there>\" é<|end|>\n<|assistant|>\nOk.<|end|>\n<|user|>\nBye's<|end|>\n<|assistant|>\n")),
];

#[test]
fn templates_render_as_in_hugging_faces_library() {
	let mut wrong = String::new();
	for (source, expected) in RENDERED {
		let found = render(source);
		if found.as_deref().ok() != *expected {
			wrong += &format!("{source}\n  expected {expected:?}\n  found {found:?}\n");
		}
	}
	assert!(wrong.is_empty(), "{wrong}");
}
