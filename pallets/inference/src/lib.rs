//! FRAME pallet: requests, escrow, committees, measurement rounds and payment.
