//! What publishers' files are and mean, whatever they are called.
//!
//! Downloads leave files that are not what their names say: pointers of Git LFS, pages that ask for a login, archives, other
//! formats. A parser would only say that they are broken; here they are recognised by their first bytes, and the person is told
//! what to do.

mod content;
mod ends;
mod growth;
mod links;

pub use content::{check, Content, Wanted};
pub use ends::turn_ends;
pub use growth::{growth, Growth};
pub use links::may_follow;
