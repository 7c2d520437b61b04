//! Behaviour of the pallet, a file for each step, and random sequences over all of them.

mod appeal;
mod certificate;
mod channel;
mod draw;
mod opening;
mod payout;
mod properties;
mod settle;
mod simulation;
mod stake;
mod testimony;
