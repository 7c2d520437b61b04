//! The model store: manifests and files on disk, verified before anything parses them.
