//! What shapes of grammars are taken.
//!
//! The library counts what a step adds to its table only once the step is done. A rule that ends with itself makes steps without bound: `p: "a" p | p "b"`
//! is open at every place where an `a` was said, and the token that closes the last `p` closes all of them at once, each with all that may follow it.
//! Where no rule ends with itself, a token closes no more than the text has rules within each other.

use llguidance::earley::{CGrammar, CSymIdx};

use crate::Error;

/// Refuses rules that end with themselves, at once or by others, and rules with parameters.
pub(crate) fn check(grammar: &CGrammar) -> Result<(), Error> {
	if grammar.parametric() {
		return Err(Error::refused("rules with parameters are not taken"));
	}
	// A walk from rules to those that they may end with. What is open is on the path to where the walk is.
	let (mut seen, mut open) = (Vec::new(), Vec::new());
	let mark = |marks: &mut Vec<bool>, symbol: CSymIdx, to: bool| -> bool {
		if marks.len() <= symbol.as_index() {
			marks.resize(symbol.as_index() + 1, false);
		}
		std::mem::replace(&mut marks[symbol.as_index()], to)
	};
	let mut roots = vec![grammar.start()];
	let mut reached = Vec::new();
	while let Some(root) = roots.pop() {
		if mark(&mut reached, root, true) {
			continue;
		}
		for rule in grammar.rules_of(root) {
			roots.extend(grammar.rule_rhs(*rule).0);
		}
		if mark(&mut seen, root, true) {
			continue;
		}
		mark(&mut open, root, true);
		let mut path = vec![(root, ends(grammar, root))];
		while let Some((symbol, next)) = path.last_mut() {
			let Some(end) = next.pop() else {
				mark(&mut open, *symbol, false);
				path.pop();
				continue;
			};
			if open.get(end.as_index()).copied().unwrap_or_default() {
				return Err(Error::refused(format!(
					"the rule {} ends with itself: lists are written with * and +, or begin with themselves",
					grammar.sym_name(end)
				)));
			}
			if !mark(&mut seen, end, true) {
				mark(&mut open, end, true);
				path.push((end, ends(grammar, end)));
			}
		}
	}
	Ok(())
}

/// What may come last in what a symbol stands for.
fn ends(grammar: &CGrammar, symbol: CSymIdx) -> Vec<CSymIdx> {
	let mut ends = Vec::new();
	for rule in grammar.rules_of(symbol) {
		for last in grammar.rule_rhs(*rule).0.iter().rev() {
			ends.push(*last);
			if !grammar.sym_data(*last).is_nullable {
				break;
			}
		}
	}
	ends.sort_unstable_by_key(CSymIdx::as_index);
	ends.dedup();
	ends
}
