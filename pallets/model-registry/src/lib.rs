//! FRAME pallet: models, their limits, prices and policies, and who serves them.
