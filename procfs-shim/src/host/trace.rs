//! What a thread does to make a file: the files it reads, and how each figure comes about. For
//! `explain`, which lets the renderers work and listens.

use std::cell::RefCell;
use std::path::PathBuf;

/// How a figure comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formula {
    /// Where it is from: names of files of a cgroup (v1 | v2), or of the machine.
    pub source: &'static str,
    /// What is done with it.
    pub words: &'static str,
}

impl Formula {
    /// Makes one.
    pub const fn new(source: &'static str, words: &'static str) -> Formula {
        Formula { source, words }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Trace {
    /// The files read, each once, in the order of their first reads.
    pub reads: Vec<PathBuf>,
    /// How figures came about, by their names; the empty name stands for all others.
    pub figures: Vec<(String, Formula)>,
}

impl Trace {
    /// Returns how a figure came about.
    pub fn figure(&self, name: &str) -> Option<Formula> {
        let find = |name: &str| self.figures.iter().find(|(n, _)| n == name).map(|(_, f)| *f);
        find(name).or_else(|| find(""))
    }
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Does `work`, and returns what it did.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, Trace) {
    TRACE.with_borrow_mut(|trace| *trace = Some(Trace::default()));
    let result = work();
    let trace = TRACE.with_borrow_mut(Option::take).unwrap_or_default();
    (result, trace)
}

/// Notes a read, if somebody wants to know.
pub(super) fn note(path: impl FnOnce() -> PathBuf) {
    TRACE.with_borrow_mut(|trace| {
        let Some(Trace { reads, .. }) = trace else { return };
        let path = path();
        if !reads.contains(&path) {
            reads.push(path);
        }
    });
}

/// Notes how a figure comes about, if somebody wants to know; under the empty name, how all others do.
pub fn figure(name: &str, formula: Formula) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(Trace { figures, .. }) = trace {
            figures.push((name.to_owned(), formula));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_noted_once_while_somebody_wants_to_know() {
        note(|| "/before".into());
        let ((), trace) = of(|| ["/a", "/b", "/a"].iter().for_each(|p| note(|| p.into())));
        assert_eq!(trace.reads, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert!(of(|| ()).1.reads.is_empty());
    }

    #[test]
    fn figures_are_found_by_name_or_by_what_holds_for_all_others() {
        let (one, all) = (Formula::new("a", "b"), Formula::new("c", "d"));
        let ((), trace) = of(|| {
            figure("one", one);
            figure("", all);
        });
        assert_eq!(trace.figure("one"), Some(one));
        assert_eq!(trace.figure("two"), Some(all));
        assert_eq!(of(|| ()).1.figure("one"), None);
    }
}
