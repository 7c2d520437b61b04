//! The validator's worker: follows the chain, runs due duties on the engine and submits the results.
