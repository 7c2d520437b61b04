//! Runs the WebAssembly runtime.
//!
//! A crate of its own for its speed alone. The SDK's executor is generic over the functions that a runtime may call, so that the passage
//! from the runtime to the node, which every storage access takes, is compiled where these are named. In the node, which tests and demo
//! build without optimisation, it took 14 times as long as the runtime itself. Here they are named in a crate that is always optimised.

use polkadot_sdk::{
	sc_executor::{
		error::{Error, Result},
		RuntimeVersion, RuntimeVersionOf, WasmExecutor,
	},
	sp_core::traits::{CallContext, CodeExecutor, ReadRuntimeVersion, RuntimeCode},
	sp_externalities::Externalities,
	sp_io,
};

/// Functions that the runtime may call: the SDK's and no others, so that every tool can run it.
pub type HostFunctions = sp_io::SubstrateHostFunctions;

/// Runs the WebAssembly runtime.
#[derive(Clone)]
pub struct Executor(WasmExecutor<HostFunctions>);

impl From<WasmExecutor<HostFunctions>> for Executor {
	fn from(executor: WasmExecutor<HostFunctions>) -> Self {
		Self(executor)
	}
}

impl CodeExecutor for Executor {
	type Error = Error;

	fn call(
		&self,
		ext: &mut dyn Externalities,
		runtime_code: &RuntimeCode,
		method: &str,
		data: &[u8],
		context: CallContext,
	) -> (Result<Vec<u8>>, bool) {
		self.0.call(ext, runtime_code, method, data, context)
	}
}

impl RuntimeVersionOf for Executor {
	fn runtime_version(
		&self,
		ext: &mut dyn Externalities,
		runtime_code: &RuntimeCode,
	) -> Result<RuntimeVersion> {
		self.0.runtime_version(ext, runtime_code)
	}
}

impl ReadRuntimeVersion for Executor {
	fn read_runtime_version(
		&self,
		wasm_code: &[u8],
		ext: &mut dyn Externalities,
	) -> std::result::Result<Vec<u8>, String> {
		self.0.read_runtime_version(wasm_code, ext)
	}
}
