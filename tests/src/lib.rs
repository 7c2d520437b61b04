//! Tests over networks of real nodes.
