//! The words that the runtime and the worker share: manifests, tensors, requests, evidence and tolerance.
