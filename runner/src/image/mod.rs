//! Images: a store of layers by content, formats in and out, registries, and new layers made of what
//! a container changed.

mod archive;
mod change;
mod codec;
mod config;
mod digest;
mod index;
mod inside;
mod layer;
mod list;
mod load;
mod make;
mod oci;
mod package;
mod progress;
mod reference;
mod registry;
mod remove;
mod save;
mod staging;
mod store;
mod time;
mod unpack;
mod work;

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::store::Store;

pub(crate) use config::ImageConfig;
pub(crate) use digest::Digest;
pub(crate) use index::Compression;
pub(crate) use inside::{SIZE_MAX, inside};
pub(crate) use list::{history, inspect, rows, size};
pub(crate) use load::{Selection, load};
pub(crate) use make::{About, Changed, commit, import};
pub(crate) use package::Wanted;
pub(crate) use progress::Progress;
pub(crate) use reference::Reference;
pub(crate) use registry::{Options as RegistryOptions, Verify, pull, push};
pub(crate) use remove::{InUse, Leftover, Removed, prune, remove};
pub(crate) use save::{Chosen, Form, archive, save};
pub(crate) use store::ImageStore;
pub(crate) use unpack::Rules;
pub(crate) use work::Work;

/// An image that is in the store.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// SHA-256 of the configuration, 64 hex digits.
    pub(crate) id: String,
    /// Its name, as it was asked for; the id where it was found by that.
    pub(crate) reference: String,
    /// Directories with its files, the topmost first: absolute, to be read only.
    pub(crate) layers: Vec<PathBuf>,
    /// What its containers are started with.
    pub(crate) config: ImageConfig,
}

/// Finds an image by name, id or a unique start of an id.
///
/// # Errors
/// There is no such image, or the store is damaged.
///
/// # Preconditions
/// Who makes a container of it holds [`ImageStore::use_lock`] until the container's record says so.
pub(crate) fn open(store: &Store, reference: &str) -> Result<Image> {
    let images = ImageStore::of(store);
    let index = images.index()?;
    let found = index.find(reference)?;
    let record = index.image(&found.id)?;
    let bytes = images.read_blob(&found.id, config::CONFIG_MAX)?;
    let mut layers = Vec::new();
    for diff_id in record.layers.iter().rev() {
        let dir = images.layer(diff_id);
        if !dir.is_dir() {
            return Err(Error::new("image layer", "its directory is gone")
                .at(&dir)
                .hint("remove the image and get it again"));
        }
        layers.push(dir);
    }
    Ok(Image {
        id: found.id.hex().to_owned(),
        reference: found.name.unwrap_or_else(|| found.id.hex().to_owned()),
        layers,
        config: config::Document::parse(&bytes)?.config(),
    })
}
