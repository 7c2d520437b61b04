//! The two steps on modules made by hand.

#![allow(clippy::unwrap_used)]

use parity_wasm::{
	builder,
	elements::{BlockType, Instruction, Instructions, Module, ValueType},
};
use wasm_opt::{OptimizationOptions, Pass};

fn run(module: &[u8], passes: &[Pass]) -> Result<Module, String> {
	let file = tempfile::NamedTempFile::new().unwrap();
	std::fs::write(file.path(), module).unwrap();
	let mut options = OptimizationOptions::new_opt_level_0();
	for pass in passes {
		options.mvp_features_only().debug_info(true).add_pass(*pass);
	}
	options
		.run(file.path(), file.path())
		.map_err(|error| error.to_string())?;
	Ok(Module::from_bytes(std::fs::read(file.path()).unwrap()).unwrap())
}

/// A function that returns its argument out of a block; `before` stands in front of the block's end.
fn module(before: &[u8]) -> Vec<u8> {
	let body = Instructions::new(vec![
		Instruction::Block(BlockType::Value(ValueType::I32)),
		Instruction::GetLocal(0),
		Instruction::End,
		Instruction::End,
	]);
	let module = builder::module()
		.function()
		.signature()
		.with_param(ValueType::I32)
		.with_result(ValueType::I32)
		.build()
		.body()
		.with_instructions(body)
		.build()
		.build()
		.build();
	let mut bytes = module.into_bytes().unwrap();
	// The code section comes last: its length, the body's length, and the instruction grow by what is put in.
	let at = bytes.len() - 2;
	let (section, function) = (bytes.len() - 10, bytes.len() - 8);
	assert_eq!(
		&bytes[section - 1..=section],
		[0x0a, 0x09],
		"code section and its length"
	);
	bytes.splice(at..at, before.iter().copied());
	bytes[section] += before.len() as u8;
	bytes[function] += before.len() as u8;
	bytes
}

#[test]
fn debug_information_goes_and_the_rest_stays() {
	let mut with = Module::from_bytes(module(&[])).unwrap();
	for name in [".debug_info", ".debug_str", "name", "runtime_version"] {
		with.set_custom_section(name, vec![0]);
	}
	let with = with.into_bytes().unwrap();
	let names = |module: &Module| {
		module
			.custom_sections()
			.map(|custom| custom.name().to_string())
			.collect::<Vec<_>>()
	};

	let stripped = run(&with, &[Pass::StripDwarf, Pass::SignextLowering]).unwrap();
	assert_eq!(names(&stripped), ["name", "runtime_version"]);
	assert_eq!(
		stripped.code_section(),
		Module::from_bytes(module(&[])).unwrap().code_section()
	);

	let kept = run(&with, &[Pass::SignextLowering]).unwrap();
	assert_eq!(kept.into_bytes().unwrap(), with);
}

#[test]
fn what_is_younger_than_the_first_version_is_refused_with_advice() {
	run(&module(&[]), &[Pass::SignextLowering]).unwrap();
	// i32.extend8_s, and i32.trunc_sat_f32_s.
	for instruction in [&[0xc0][..], &[0xfc, 0x00]] {
		let error = run(&module(instruction), &[Pass::SignextLowering]).unwrap_err();
		assert!(error.contains("wasm32v1-none"), "{error}");
	}
}

#[test]
fn what_is_no_module_is_refused() {
	assert!(run(b"\x7fELF", &[]).is_err());
	assert!(OptimizationOptions::new_opt_level_0()
		.run("/nowhere/in.wasm", "/nowhere/out.wasm")
		.is_err());
}
