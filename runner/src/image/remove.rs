//! Names and images that go, and content that nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result, best_effort};
use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::staging;
use crate::image::store::ImageStore;

/// Images that containers are made of, with the containers' names.
pub(crate) type InUse = BTreeMap<Digest, Vec<String>>;

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// A name.
    Name(String),
    /// An image.
    Image(Digest),
}

/// What is left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Images without a name.
    Nameless,
    /// All that no container uses.
    Unused,
}

/// Takes a name from an image, and removes the image with its last name (or at once if it was found
/// by its id).
///
/// # Errors
/// It has several names, or a container uses it, and it isn't forced.
pub(crate) fn remove(
    store: &ImageStore,
    word: &str,
    force: bool,
    in_use: &InUse,
) -> Result<Vec<Removed>> {
    let _alone = store.removal_lock()?;
    let removed = store.change(|index| {
        let found = index.find(word)?;
        let mut removed = Vec::new();
        let names = index.names_of(&found.id);
        if let Some(name) = found.name.filter(|n| names.contains(n)) {
            if names.len() > 1 {
                index.names.remove(&name);
                return Ok(vec![Removed::Name(name)]);
            }
        } else if names.len() > 1 && !force {
            let what = format!("it has several names: {}", names.join(", "));
            return Err(Error::new(format!("remove image {word}"), what)
                .hint("remove it by name, or all of them by --force"));
        }
        if let Some(users) = in_use.get(&found.id) {
            let what = format!("containers are made of it: {}", users.join(", "));
            return Err(Error::new(format!("remove image {word}"), what)
                .hint("remove those first by `runner rm`"));
        }
        for name in names {
            index.names.remove(&name);
            removed.push(Removed::Name(name));
        }
        index.images.remove(&found.id);
        removed.push(Removed::Image(found.id));
        index.drop_unused_layers();
        Ok(removed)
    })?;
    collect(store)?;
    Ok(removed)
}

/// Removes what is left over, and returns the images and how many bytes of files they had.
pub(crate) fn prune(
    store: &ImageStore,
    which: Leftover,
    in_use: &InUse,
) -> Result<(Vec<Digest>, u64)> {
    let _alone = store.removal_lock()?;
    let before = store.index()?;
    let gone = store.change(|index| {
        let named: BTreeSet<Digest> = index.names.values().cloned().collect();
        let gone: Vec<Digest> = index
            .images
            .keys()
            .filter(|id| !in_use.contains_key(*id))
            .filter(|id| which == Leftover::Unused || !named.contains(*id))
            .cloned()
            .collect();
        for id in &gone {
            index.images.remove(id);
        }
        index.names.retain(|_, id| !gone.contains(id));
        index.drop_unused_layers();
        Ok(gone)
    })?;
    let after = collect(store)?;
    let freed = before.layers.iter().filter(|(id, _)| !after.layers.contains_key(*id));
    Ok((gone, freed.map(|(_, l)| l.size).sum()))
}

/// Removes files that the index doesn't name.
///
/// # Preconditions
/// The caller holds the removal lock, so nobody is adding any.
fn collect(store: &ImageStore) -> Result<Index> {
    let index = store.index()?;
    staging::sweep(&store.staging());
    let blobs = index.live_blobs();
    sweep(&store.dir().join("blobs/sha256"), |id| blobs.contains(id))?;
    sweep(&store.dir().join("layers"), |id| index.layers.contains_key(id))?;
    Ok(index)
}

fn sweep(dir: &Path, is_live: impl Fn(&Digest) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).step_at("list", dir)?.flatten() {
        let live =
            entry.file_name().to_str().and_then(Digest::from_hex).is_some_and(|id| is_live(&id));
        if live {
            continue;
        }
        let path = entry.path();
        let gone = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        best_effort("remove what nothing needs", gone.step_at("remove", path));
    }
    Ok(())
}
