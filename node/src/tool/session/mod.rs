//! The session lane from the command line: channels, and a chat in the terminal.

mod channel;
mod chat;
mod network;

pub(crate) use channel::ChannelCommand;
pub(crate) use chat::ChatCommand;
pub(super) use network::Network;
