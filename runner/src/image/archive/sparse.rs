//! Which parts of a sparse file an archive has: GNU's old header, and versions 0.0, 0.1 and 1.0 of
//! its keys in extended headers.

use crate::error::{Error, Result};

/// Most parts that a file may have.
pub(super) const PARTS_MAX: usize = 1 << 20;

/// The parts of a file that are stored, in order; between them are holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// Offset and length.
    pub(crate) parts: Vec<(u64, u64)>,
}

impl Map {
    /// Checks that the parts are in order, don't overlap, lie in the file, and are all of the data.
    pub(super) fn checked(parts: Vec<(u64, u64)>, real_size: u64, stored: u64) -> Result<Map> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for &(offset, length) in &parts {
            let next = offset.checked_add(length).filter(|&n| offset >= end && n <= real_size);
            end = next.ok_or_else(|| bad("its parts overlap, or lie outside of the file"))?;
            sum += length;
        }
        if sum != stored {
            return Err(bad("its parts are not as long as its data"));
        }
        Ok(Map { parts })
    }

    /// Makes pairs of alternating offsets and lengths.
    pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
        let pairs = numbers.chunks(2).map(|pair| match pair {
            &[offset, length] => Ok((offset, length)),
            _ => Err(bad("its map has an offset without a length")),
        });
        pairs.collect()
    }
}

pub(super) fn bad(why: &str) -> Error {
    Error::new("read archive", format!("a sparse file is broken: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        assert!(Map::checked(vec![(0, 5), (10, 5)], 20, 10).is_ok());
        assert!(Map::checked(vec![(10, 5), (0, 5)], 20, 10).is_err());
        assert!(Map::checked(vec![(0, 5)], 4, 5).is_err());
        assert!(Map::checked(vec![(0, 5)], 9, 6).is_err());
        assert!(Map::checked(vec![(u64::MAX, 5)], u64::MAX, 5).is_err());
        assert!(Map::pairs(&[1, 2, 3]).is_err());
    }
}
