//! Migrations of this pallet's storage, one for each storage version after the first. How one is written: see
//! `pallet_inference::migrations`.

/// All migrations, the oldest first. Storage version 1 is the first.
pub type Migrations = ();
