//! An image on its way out: its manifest, and its layers compressed as the receiver shall have them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::path::PathBuf;

use oci_spec::image::MediaType;

use crate::error::{Context, Error, Result};
use crate::image::codec::{Encoder, decoder};
use crate::image::config::CONFIG_MAX;
use crate::image::digest::{Digest, Hashing};
use crate::image::index::{Compression, Layer};
use crate::image::oci::{self, MANIFEST_MAX};
use crate::image::store::ImageStore;
use crate::image::work::Work;

/// How layers shall be compressed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// In this way; `None`: as they are kept, and by gzip those that came plain.
    pub(crate) compression: Option<Compression>,
    /// At this level.
    pub(crate) level: Option<u32>,
}

/// An image on its way out.
#[derive(Debug)]
pub(crate) struct Package {
    /// The manifest.
    pub(crate) manifest: Vec<u8>,
    /// Its media type.
    pub(crate) media: String,
    /// The configuration.
    pub(crate) config: (Digest, Vec<u8>),
    /// The layers, the bottom one first.
    pub(crate) layers: Vec<Outgoing>,
}

/// A layer on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// Digest as it travels.
    pub(crate) digest: Digest,
    /// Bytes as it travels.
    pub(crate) size: u64,
    /// Where its bytes are.
    pub(crate) file: PathBuf,
}

/// Returns the plain archive of a layer.
pub(crate) fn plain(store: &ImageStore, layer: &Layer) -> Result<Box<dyn Read + Send>> {
    let path = store.blob(&layer.blob);
    let file = File::open(&path).step_at("open layer", &path)?;
    decoder(layer.compression, BufReader::with_capacity(1 << 17, file))
}

impl Package {
    /// Makes ready an image, which compresses layers anew where that is wanted.
    pub(crate) fn new(work: &Work, id: &Digest, wanted: Wanted) -> Result<Package> {
        let store = &work.store;
        let index = store.index()?;
        let record = index.image(id)?;
        let config = store.read_blob(id, CONFIG_MAX)?;
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        let mut same = true;
        for diff_id in &record.layers {
            let layer = index.layers.get(diff_id);
            let layer =
                layer.ok_or_else(|| Error::new("image", format!("its layer {diff_id} is gone")))?;
            let target = wanted.compression.unwrap_or(match layer.compression {
                Compression::Zstd if layer.ours => Compression::Gzip,
                other => other,
            });
            let out = if target == layer.compression {
                Outgoing {
                    digest: layer.blob.clone(),
                    size: layer.blob_size,
                    file: store.blob(&layer.blob),
                }
            } else {
                same = false;
                remake(work, layer, target, wanted.level)?
            };
            descriptors.push(oci::descriptor(oci::layer_type(target), &out.digest, out.size)?);
            layers.push(out);
        }
        let kept = match &record.manifest {
            Some(digest) if same => Some(store.read_blob(digest, MANIFEST_MAX)?),
            _ => None,
        };
        let manifest = match kept {
            Some(bytes) => bytes,
            None => {
                let config = oci::descriptor(MediaType::ImageConfig, id, config.len() as u64)?;
                oci::manifest(config, descriptors)?
            }
        };
        let media = media_of(&manifest);
        Ok(Package { manifest, media, config: (id.clone(), config), layers })
    }

    /// Returns the digest of the manifest.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

/// Returns the media type that a manifest has.
fn media_of(manifest: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(manifest).unwrap_or_default();
    let said = value.get("mediaType").and_then(|m| m.as_str()).map(str::to_owned);
    said.unwrap_or_else(|| MediaType::ImageManifest.to_string())
}

/// Compresses a layer in another way.
fn remake(work: &Work, layer: &Layer, target: Compression, level: Option<u32>) -> Result<Outgoing> {
    let path = work.temp("remade");
    let file = File::create_new(&path).step_at("create", &path)?;
    let mut out =
        Encoder::new(target, level, Hashing::new(BufWriter::with_capacity(1 << 20, file)))?;
    let bar = work.progress.bar(layer.blob.short(), Some(layer.archive_size));
    let mut from = bar.wrap(plain(&work.store, layer)?);
    io::copy(&mut from, &mut out).step("compress layer")?;
    let (file, digest, size) = out.finish().step_at("write", &path)?.finish();
    file.into_inner().map_err(io::IntoInnerError::into_error).step_at("write", &path)?;
    bar.done("compressed");
    Ok(Outgoing { digest, size, file: path })
}
