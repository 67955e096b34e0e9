//! Makes the plan of a failing seed smaller, as long as the same kind of thing goes wrong.

use crate::run::{RunOptions, plan_of, replay};

/// The numbers of the actions without which the seed no longer fails in the same way: none of them can be left out
/// alone. Nothing if the seed does not fail.
pub fn shrink(seed: u64, options: RunOptions) -> Option<Vec<usize>> {
    let mut kept: Vec<usize> = (0..plan_of(seed, options).len()).collect();
    let kind = replay(seed, options, &kept).violation_kind?;
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut removed = false;
        while at < kept.len() {
            let end = (at + chunk).min(kept.len());
            let fewer: Vec<usize> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            if replay(seed, options, &fewer).violation_kind.as_ref() == Some(&kind) {
                kept = fewer;
                removed = true;
            } else {
                at = end;
            }
        }
        match (chunk, removed) {
            (1, false) => return Some(kept),
            (1, true) => {}
            _ => chunk = chunk.div_ceil(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_does_not_fail_has_nothing_to_shrink() {
        assert_eq!(shrink(1, RunOptions { faults_seconds: 3, keeps_story: false }), None);
    }
}
