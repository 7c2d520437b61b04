//! Compiles the runtime to WebAssembly and embeds it.

fn main() {
	#[cfg(feature = "std")]
	{
		// The lock file is looked for above the target folder, which may lie outside the workspace.
		if std::env::var_os("WASM_BUILD_WORKSPACE_HINT").is_none() {
			// Where it runs, not where it was compiled: clones may share a target folder.
			let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it; qed");
			let workspace = std::path::Path::new(&package).join("..");
			std::env::set_var("WASM_BUILD_WORKSPACE_HINT", workspace);
		}
		// Clippy's driver belongs to the host's toolchain, and nothing of it to the runtime's own build.
		std::env::remove_var("RUSTC_WORKSPACE_WRAPPER");
		substrate_wasm_builder::WasmBuilder::build_using_defaults();
	}
}
