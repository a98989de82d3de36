//! Processor numbers and the kernel's list syntax (`0-3,8`).

use std::fmt;

use crate::error::ParseError;

/// Number of a processor, as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub u32);

/// A set of processors in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Vec<CpuId>);

/// More processors than any kernel supports: a guard against a wrong range eating the memory.
const MOST_CPUS: u32 = 65_536;

impl CpuList {
    /// Reads the list syntax; order and repetition don't matter, an empty text is an empty set.
    ///
    /// # Errors
    /// Anything but numbers and ranges between commas.
    pub fn parse(text: &str) -> Result<CpuList, ParseError> {
        let wrong = || ParseError { line: 1, expected: "a list of processors such as 0-3,8" };
        let mut all = Vec::new();
        for part in text.trim().split(',').filter(|p| !p.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u32 = first.trim().parse().map_err(|_| wrong())?;
            let last: u32 = last.trim().parse().map_err(|_| wrong())?;
            if last < first || last >= MOST_CPUS {
                return Err(wrong());
            }
            all.extend((first..=last).map(CpuId));
        }
        Ok(all.into_iter().collect())
    }

    /// The processors in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.0.iter().copied()
    }

    /// Number of processors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    /// The processors that are in both sets.
    pub fn intersection(&self, other: &CpuList) -> CpuList {
        CpuList(self.iter().filter(|&c| other.contains(c)).collect())
    }
}

impl FromIterator<CpuId> for CpuList {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuList {
        let mut all: Vec<CpuId> = cpus.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        CpuList(all)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().map(|c| c.0).peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|&n| n == last + 1) {
                last = next;
            }
            f.write_str(separator)?;
            separator = ",";
            match last - first {
                0 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_any_order_and_printed_in_the_kernel_s() {
        for (text, shown, count) in [
            ("0-3,8\n", "0-3,8", 5),
            ("8,0-3", "0-3,8", 5),
            ("1\n", "1", 1),
            ("0-1,1-2", "0-2", 3),
            ("\n", "", 0),
            ("0,2,4", "0,2,4", 3),
            ("0-511", "0-511", 512),
        ] {
            let list = CpuList::parse(text).unwrap();
            assert_eq!(list.to_string(), shown);
            assert_eq!(list.len(), count);
        }
    }

    #[test]
    fn nonsense_is_no_list() {
        for text in ["a", "3-1", "0-", "-1", "0-99999999"] {
            assert!(CpuList::parse(text).is_err(), "{text}");
        }
    }
}
