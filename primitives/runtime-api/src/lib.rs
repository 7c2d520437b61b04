//! Declaration of the runtime API through which node and clients see models, requests and duties.
