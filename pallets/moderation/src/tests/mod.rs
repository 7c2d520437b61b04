//! Behaviour of the pallet alone, over random sequences, and with the pallets that it asks; and that the guide shows this code.

mod guide;
mod network;
mod policy;
mod properties;
mod propose;
mod settled;
