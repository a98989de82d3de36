//! All loads, with the figures that are looked at under each.

use super::{Group, Row};

/// How fast the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it is.
    Native,
    /// Emulated, where starting a program takes a tenth of a second.
    Emulated,
}

/// Returns them in the order of the page. On an emulated machine, two rows are enough of those that take
/// seconds, and what a peer shows there isn't judged: it is looked at once.
pub fn all(pace: Pace) -> Vec<Group> {
    let mut all = super::memory::groups();
    all.extend(super::processors::groups());
    all.extend(super::others::groups());
    if pace == Pace::Emulated {
        for group in &mut all {
            group.rows.retain(|row| {
                !row.slow || row.tool == "top" || row.unit == "%" && row.tool == "cat"
            });
            let once = |row: &mut Row| row.steady &= !row.slow;
            group.rows.iter_mut().for_each(once);
        }
    }
    all
}
