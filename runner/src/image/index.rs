//! The index of a store: which images there are, what they are called and what they are made of.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// Everything that is in a store. What it doesn't name is garbage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Images by id, which is the digest of the configuration.
    #[serde(default)]
    pub(crate) images: BTreeMap<Digest, Record>,
    /// What they are called.
    #[serde(default)]
    pub(crate) names: BTreeMap<String, Digest>,
    /// Layers by DiffID.
    #[serde(default)]
    pub(crate) layers: BTreeMap<Digest, Layer>,
}

/// One image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its manifest, as it came; `None` for one made here.
    #[serde(default)]
    pub(crate) manifest: Option<Digest>,
    /// When it was made, as its configuration says.
    #[serde(default)]
    pub(crate) created: String,
    /// Its layers' DiffIDs, the bottom one first.
    pub(crate) layers: Vec<Digest>,
    /// Where it was pulled from or pushed to: `REPOSITORY@DIGEST`.
    #[serde(default)]
    pub(crate) repo_digests: BTreeSet<String>,
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// The layer as it travels.
    pub(crate) blob: Digest,
    /// Bytes of that.
    pub(crate) blob_size: u64,
    /// How it is compressed.
    pub(crate) compression: Compression,
    /// Whether we compressed it, so that nobody knows it by the blob's digest.
    #[serde(default)]
    pub(crate) ours: bool,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Bytes of the archive, decompressed.
    pub(crate) archive_size: u64,
}

/// How a layer is compressed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// What a person's word for an image leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The image.
    pub(crate) id: Digest,
    /// The name by which it was found; `None`: by its id.
    pub(crate) name: Option<String>,
}

impl Index {
    /// Finds an image by name, by id or by a unique start of an id.
    ///
    /// # Errors
    /// There is none, or several ids begin so.
    pub(crate) fn find(&self, word: &str) -> Result<Found> {
        for candidate in Reference::candidates(word) {
            if let Some(found) = self.named(&candidate) {
                return Ok(found);
            }
        }
        let hex = word.strip_prefix("sha256:").unwrap_or(word);
        let is_hex = hex.len() >= 3 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let mut ids = self.images.keys().filter(|id| is_hex && id.hex().starts_with(hex));
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(Found { id: id.clone(), name: None }),
            (Some(_), Some(_)) => Err(Error::new(format!("image {word}"), "several ids begin so")
                .hint("write more of the id")),
            _ => Err(Error::new(format!("image {word}"), "there is no such image here")
                .hint("see `runner images`, or get it by `runner pull`, `load` or `import`")),
        }
    }

    fn named(&self, reference: &Reference) -> Option<Found> {
        if reference.digest.is_some() {
            let digest = format!("{}@{}", reference.repository(), reference.digest.as_ref()?);
            let mut images = self.images.iter();
            let (id, _) = images.find(|(_, r)| r.repo_digests.contains(&digest))?;
            return Some(Found { id: id.clone(), name: Some(digest) });
        }
        let name = reference.to_string();
        let id = self.names.get(&name)?.clone();
        Some(Found { id, name: Some(name) })
    }

    /// Returns the record of an image.
    pub(crate) fn image(&self, id: &Digest) -> Result<&Record> {
        self.images.get(id).ok_or_else(|| Error::new(format!("image {id}"), "it was just removed"))
    }

    /// Returns the names of an image.
    pub(crate) fn names_of(&self, id: &Digest) -> Vec<String> {
        self.names.iter().filter(|(_, i)| *i == id).map(|(n, _)| n.clone()).collect()
    }

    /// Returns the bytes of an image's files.
    pub(crate) fn size_of(&self, record: &Record) -> u64 {
        record.layers.iter().filter_map(|l| self.layers.get(l)).map(|l| l.size).sum()
    }

    /// Returns all blobs that something needs.
    pub(crate) fn live_blobs(&self) -> BTreeSet<Digest> {
        let configs = self.images.keys().cloned();
        let manifests = self.images.values().filter_map(|r| r.manifest.clone());
        let layers = self.layers.values().map(|l| l.blob.clone());
        configs.chain(manifests).chain(layers).collect()
    }

    /// Forgets the layers that no image has.
    pub(crate) fn drop_unused_layers(&mut self) {
        let used: BTreeSet<_> =
            self.images.values().flat_map(|r| r.layers.iter().cloned()).collect();
        self.layers.retain(|id, _| used.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> (Index, Digest, Digest) {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut index = Index::default();
        for id in [&a, &b] {
            index.images.insert(id.clone(), Record::default());
        }
        index.names.insert("localhost/x:latest".into(), a.clone());
        index.names.insert("docker.io/library/debian:12".into(), b.clone());
        (index, a, b)
    }

    #[test]
    fn images_are_found_by_what_people_type() {
        let (index, a, b) = index();
        assert_eq!(index.find("x").unwrap().id, a);
        assert_eq!(index.find("localhost/x").unwrap().id, a);
        assert_eq!(index.find("debian:12").unwrap().id, b);
        assert_eq!(index.find(b.short()).unwrap().id, b);
        assert_eq!(index.find(&b.to_string()).unwrap().id, b);
        for none in ["y", "debian", "ff", ""] {
            assert!(index.find(none).is_err(), "{none}");
        }
    }
}
