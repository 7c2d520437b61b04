//! The tool: models, requests, and the engine's process. Written by the lead; being filled in.
