//! JSON-RPC of models and requests.
