//! What the registry does, a file for each part.

mod registration;
mod serving;
mod view;
