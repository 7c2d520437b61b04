//! How far measurements and outputs are apart.

use consilience_primitives::{
	evidence::{Evidence, Fingerprint},
	fixed,
	model::VerificationPolicy,
	request::Output,
	tensor::Tensor,
};

use crate::policy::Spread;

/// What one way of running measured of each claim; nothing where it was not its turn.
pub(crate) type Measurements = Vec<Vec<Evidence>>;

/// What two ways of running both measured.
fn both<'a>(
	a: &'a Measurements,
	b: &'a Measurements,
) -> impl Iterator<Item = (&'a Evidence, &'a Evidence)> {
	a.iter().zip(b).flat_map(|(a, b)| a.iter().zip(b))
}

/// Whether any element of two outputs is farther apart than the policy accepts; what is no float may not differ at all.
pub(crate) fn differs(policy: &VerificationPolicy, a: Option<&Output>, b: Option<&Output>) -> bool {
	let (Some(Output::Tensors(a)), Some(Output::Tensors(b))) = (a, b) else {
		return true;
	};
	let bits = policy.fraction_bits;
	let values = |a: &Tensor, b: &Tensor| match (fixed::floats(a, bits), fixed::floats(b, bits)) {
		(Some(a), Some(b)) => a.zip(b).any(|pair| match pair {
			(Ok(a), Ok(b)) => a.abs_diff(b) > policy.accept.max.into(),
			(a, b) => a != b,
		}),
		_ => a.data != b.data,
	};
	a.len() != b.len()
		|| a.iter()
			.zip(b.iter())
			.any(|(a, b)| a.shape != b.shape || a.datatype != b.datatype || values(a, b))
}

/// Whether what is compared exactly of fingerprints is the same, however the model was run.
pub(crate) fn same_tags(ways: &[Measurements]) -> bool {
	let tag = |evidence: &Evidence| match evidence.fingerprint {
		Fingerprint::Values { tag, .. } => Some(tag),
		Fingerprint::Digest(_) => None,
	};
	ways.iter().enumerate().all(|(i, a)| {
		let mut others = ways[i..].iter();
		others.all(|b| both(a, b).all(|(a, b)| tag(a) == tag(b)))
	})
}

/// The largest value of fingerprints, in steps.
pub(crate) fn largest_value(measured: &[Evidence]) -> u32 {
	let values = measured.iter().flat_map(|e| match &e.fingerprint {
		Fingerprint::Values { values, .. } => &values[..],
		Fingerprint::Digest(_) => &[],
	});
	values.map(|v| v.unsigned_abs()).max().unwrap_or_default()
}

/// How far two ways of running were apart at most.
pub(crate) fn spread(a: &Measurements, b: &Measurements, fraction_bits: u8) -> Spread {
	let step = (-f64::from(fraction_bits)).exp2();
	let mut spread = Spread::default();
	for (a, b) in both(a, b) {
		let margin = a.verdict.margin_max.max(b.verdict.margin_max);
		let (mut mean, mut max) = (0.0, 0f64);
		if let (Fingerprint::Values { values: a, .. }, Fingerprint::Values { values: b, .. }) =
			(&a.fingerprint, &b.fingerprint)
		{
			let mut sum = 0.0;
			for (a, b) in a.iter().zip(b.iter()) {
				let difference = f64::from(a.abs_diff(*b)) * step;
				sum += difference;
				max = max.max(difference);
			}
			mean = sum / a.len().max(1) as f64;
		}
		spread = spread.join(Spread {
			mean,
			max,
			margin: f64::from(margin) / 65_536.0,
		});
	}
	spread
}

/// How many measurements were compared with the first way of running, and how many were not equal in every bit.
pub(crate) fn unequal(ways: &[Measurements]) -> (u64, u64) {
	let (mut compared, mut different) = (0, 0);
	if let Some((first, others)) = ways.split_first() {
		for other in others {
			for (a, b) in both(first, other) {
				compared += 1;
				different += u64::from(a != b);
			}
		}
	}
	(compared, different)
}
