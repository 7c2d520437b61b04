//! Migrations of this pallet's storage, one for each storage version after the first.
//!
//! A change of what is stored raises `STORAGE_VERSION` by one and adds a module here, `v2` for the step from 1 to 2, with the
//! former types, an `UncheckedOnRuntimeUpgrade` that translates, and its checks before and after (`pre_upgrade`, `post_upgrade`).
//! Wrapped in `frame_support::migrations::VersionedMigration` it runs once, whatever the order of upgrades, and stands in
//! [`Migrations`]:
//!
//! ```ignore
//! pub type V1ToV2<T> = VersionedMigration<1, 2, v2::Migrate<T>, Pallet<T>, <T as frame_system::Config>::DbWeight>;
//! ```
//!
//! Open requests live through an upgrade: a migration keeps their numbers, deadlines, escrows and rounds, so that what validators
//! have committed to can still be revealed. `tests/changes.rs` does so with a request in every state of its life.

/// All migrations, the oldest first; the runtime names them in `SingleBlockMigrations`. One is dropped once no network is behind
/// it. Storage version 1 is the first.
pub type Migrations = ();
