//! Names that an upper hasn't got, of files that it has: a lower file with several names that was
//! copied up under one of them is the copy under all of them, which only a mount's index knows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sys::stat::Stat;

use super::error::{OfflineError, Result};
use super::raw::join;
use super::walk::{Node, Stack, Visitor, Was};
use crate::inode::Inode;
use crate::layer::Spot;
use crate::layer::marks::{Links, Marks};

/// Passes everything on, and notes which names of which files there were.
pub(super) struct Tracking<'a, V> {
    inner: &'a mut V,
    dirs: HashSet<Vec<u8>>,
    files: BTreeMap<u64, File>,
}

/// A file with several names, by the number that its lower one had.
#[derive(Default)]
struct File {
    names: HashSet<Vec<u8>>,
    upper: Option<Copy>,
}

/// The copy in the upper.
struct Copy {
    stat: Stat,
    spot: Spot,
    data: Option<Arc<Inode>>,
    origin: Option<Vec<u8>>,
    /// How many names users see.
    shown: Option<u64>,
}

impl<V: Visitor> Visitor for Tracking<'_, V> {
    fn object(&mut self, stack: &Stack, node: &Node<'_>) -> Result<()> {
        if node.stat.is_dir() {
            self.dirs.insert(node.path.to_vec());
        } else if let Some(marks) = node.marks.filter(|m| m.nlink.is_some()) {
            let told = || stack.merged.number(marks.origin.as_deref()?);
            let number = marks.number.or_else(told);
            if let Some(number) = number {
                let shown = shown(stack, &node.stat, marks);
                let (spot, data) = (node.spot.clone(), node.data.clone());
                let file = self.files.entry(number).or_default();
                file.names.insert(node.path.to_vec());
                let origin = marks.origin.clone();
                file.upper.get_or_insert(Copy { stat: node.stat, spot, data, origin, shown });
            }
        } else if node.marks.is_none() && node.stat.nlink > 1 {
            let file = self.files.entry(node.stat.ino).or_default();
            file.names.insert(node.path.to_vec());
        }
        self.inner.object(stack, node)
    }

    fn deleted(&mut self, path: &[u8]) -> Result<()> {
        self.inner.deleted(path)
    }

    fn hidden(&mut self, path: &[u8]) -> Result<()> {
        self.inner.hidden(path)
    }
}

/// Returns how many names users see of a copy, if that can be found out.
fn shown(stack: &Stack, stat: &Stat, marks: &Marks) -> Option<u64> {
    let signed = match marks.nlink? {
        Links::Upper(more) => i64::from(stat.nlink) + i64::from(more),
        Links::Lower(more) => {
            i64::from(stack.merged.lower_links(marks.origin.as_deref()?)?) + i64::from(more)
        }
    };
    u64::try_from(signed).ok()
}

impl<'a, V: Visitor> Tracking<'a, V> {
    pub(super) fn new(inner: &'a mut V) -> Tracking<'a, V> {
        Tracking { inner, dirs: HashSet::new(), files: BTreeMap::new() }
    }

    /// Tells of the names that were not met, of which there nearly always are none. Only if there are,
    /// everything that users see is looked at.
    pub(super) fn finish(mut self, stack: &Stack) -> Result<()> {
        self.files.retain(|_, f| {
            let met = f.names.len() as u64;
            f.upper.as_ref().is_some_and(|u| u.shown.is_none_or(|shown| shown > met))
        });
        if self.files.is_empty() {
            return Ok(());
        }
        let root = stack.merged.root().map_err(OfflineError::at("look at", b""))?;
        self.search(stack, &root, b"")
    }

    fn search(&mut self, stack: &Stack, dir: &Arc<Inode>, above: &[u8]) -> Result<()> {
        let view = &stack.merged;
        for name in view.names(dir).map_err(OfflineError::at("list", above))? {
            let path = join(above, &name);
            let seen = view.child(dir, &name).map_err(OfflineError::at("look up", &path))?;
            let Some(seen) = seen.filter(|_| !stack.is_excluded(&path)) else { continue };
            if seen.inode.is_dir() {
                self.search(stack, &seen.inode, &path)?;
                continue;
            }
            let Some(file) = self.files.get_mut(&seen.stat.ino) else { continue };
            let origin = file.upper.as_ref().and_then(|u| u.origin.as_deref());
            // Another file may have the number since the layers were moved to another disk.
            let is_other = origin.is_some_and(|o| !view.is_origin(o, &seen.inode));
            if is_other || !file.names.insert(path.clone()) {
                continue;
            }
            let Some(upper) = &file.upper else { continue };
            let (stat, spot, data) = (upper.stat, upper.spot.clone(), upper.data.clone());
            self.above(stack, &path)?;
            let node =
                Node { path: &path, stat, spot, data, was: Was::Other, opaque: false, marks: None };
            self.inner.object(stack, &node)?;
        }
        Ok(())
    }

    /// Tells of the directories above a name that the upper hasn't got.
    fn above(&mut self, stack: &Stack, path: &[u8]) -> Result<()> {
        let mut dir = stack.merged.root().map_err(OfflineError::at("look at", b""))?;
        let mut here = Vec::new();
        let parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        let (_, parents) = parts.split_last().unwrap_or((&path, &[]));
        for part in parents {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(part);
            here = join(&here, name);
            let fail = OfflineError::at("look up", &here);
            let Some(seen) = stack.merged.child(&dir, name).map_err(fail)? else { return Ok(()) };
            dir = seen.inode;
            if self.dirs.insert(here.clone()) {
                let spot = stack.merged.spot(&dir).map_err(OfflineError::at("find", &here))?;
                let node = Node {
                    path: &here,
                    stat: seen.stat,
                    spot,
                    data: None,
                    was: Was::Dir,
                    opaque: false,
                    marks: None,
                };
                self.inner.object(stack, &node)?;
            }
        }
        Ok(())
    }
}
