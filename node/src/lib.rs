//! The Consilience node and command line.
