//! Which files a thread reads, for `explain`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

thread_local! {
    static READS: RefCell<Option<Vec<PathBuf>>> = const { RefCell::new(None) };
}

/// Does `work`, and returns the files that it read, each once, in the order of their first reads.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, Vec<PathBuf>) {
    READS.with_borrow_mut(|reads| *reads = Some(Vec::new()));
    let result = work();
    let reads = READS.with_borrow_mut(Option::take).unwrap_or_default();
    (result, reads)
}

/// Notes a read, if somebody wants to know.
pub(super) fn note(path: &Path) {
    READS.with_borrow_mut(|reads| {
        if let Some(reads) = reads
            && !reads.iter().any(|known| known == path)
        {
            reads.push(path.to_path_buf());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_noted_once_while_somebody_wants_to_know() {
        note(Path::new("/before"));
        let ((), reads) = of(|| ["/a", "/b", "/a"].iter().for_each(|p| note(Path::new(p))));
        assert_eq!(reads, [Path::new("/a"), Path::new("/b")]);
        assert!(of(|| ()).1.is_empty());
    }
}
