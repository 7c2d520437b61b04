//! The endpoint over real sockets, between doubles of chain and engine.

mod bad;
mod checks;
mod client;
mod crash;
mod double;
mod fuzz;
mod life;
mod limits;
mod line;
mod money;
mod old;
