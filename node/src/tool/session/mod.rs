//! The session lane from the command line: channels, and a chat in the terminal.

mod channel;
mod chat;
mod network;
mod witness;

pub(crate) use channel::ChannelCommand;
pub(super) use channel::{find, open_for, usable};
pub(crate) use chat::ChatCommand;
pub(super) use network::Network;
pub(super) use witness::{testify, Witness};
