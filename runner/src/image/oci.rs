//! The documents of the OCI image format, and Docker's that look alike: manifests, indexes and layouts
//! (image-spec, manifest.md, image-index.md, image-layout.md).

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::image::config::architecture;
use crate::image::digest::Digest;
use crate::image::index::Compression;

/// Largest manifest or index that is read, as registries have it.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;

/// Docker's media types.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Annotation of a layout's index with a name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, by containerd and newer Docker: always a whole name.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What a digest leads to.
pub(crate) enum Manifest {
    /// An image.
    Image(Box<ImageManifest>),
    /// One for each platform.
    Index(Box<ImageIndex>),
}

impl Manifest {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// It is neither, or could be read as both (CVE-2021-41190).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest> {
        let value: Value = serde_json::from_slice(bytes).step("read manifest")?;
        let has = |key: &str| value.get(key).is_some();
        let media = value.get("mediaType").and_then(Value::as_str).unwrap_or("");
        let is_index = has("manifests");
        if is_index && (has("layers") || has("config")) {
            return Err(Error::new(
                "read manifest",
                "it can be read as an image and as an index: refused",
            ));
        }
        let says_index = media == DOCKER_LIST || media == MediaType::ImageIndex.to_string();
        let says_image = media == DOCKER_MANIFEST || media == MediaType::ImageManifest.to_string();
        if is_index && says_image || !is_index && says_index {
            return Err(Error::new("read manifest", "its type contradicts its content: refused"));
        }
        if value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err(Error::new("read manifest", "it is of an older version than 2")
                .hint("push the image anew with a current tool"));
        }
        if is_index {
            let index = serde_json::from_value(value).step("read index")?;
            return Ok(Manifest::Index(Box::new(index)));
        }
        let manifest: ImageManifest = serde_json::from_value(value).step("read manifest")?;
        for layer in manifest.layers() {
            check_layer(layer)?;
        }
        Ok(Manifest::Image(Box::new(manifest)))
    }
}

/// Returns the digest that a descriptor has.
pub(crate) fn digest(descriptor: &Descriptor) -> Result<Digest> {
    descriptor.digest().to_string().parse()
}

fn check_layer(layer: &Descriptor) -> Result<()> {
    let media = layer.media_type().to_string();
    let plain = media.trim_end_matches("+gzip").trim_end_matches("+zstd").trim_end_matches(".gzip");
    let known = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        DOCKER_LAYER,
        FOREIGN_LAYER.trim_end_matches(".gzip"),
    ];
    if known.contains(&plain) || plain == format!("{DOCKER_LAYER}.zstd") {
        return Ok(());
    }
    let hint = if media.contains("encrypted") {
        "decrypt it first"
    } else {
        "only images of containers can be used"
    };
    Err(Error::new("read manifest", format!("a layer of type {media} is not supported")).hint(hint))
}

/// Chooses the image of this machine's platform.
pub(crate) fn choose(index: &ImageIndex) -> Result<Descriptor> {
    let mut have = Vec::new();
    for entry in index.manifests() {
        match entry.platform() {
            None => return Ok(entry.clone()),
            Some(p) => {
                let (os, arch) = (p.os().to_string(), p.architecture().to_string());
                if os == "linux" && arch == architecture() {
                    return Ok(entry.clone());
                }
                have.push(format!("{os}/{arch}"));
            }
        }
    }
    let what = format!("there is none for linux/{}, only for {}", architecture(), have.join(", "));
    Err(Error::new("choose image", what))
}

/// Returns the type of a layer that is compressed in some way.
pub(crate) fn layer_type(compression: Compression) -> MediaType {
    match compression {
        Compression::None => MediaType::ImageLayer,
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    }
}

/// Makes a descriptor.
pub(crate) fn descriptor(media: MediaType, digest: &Digest, size: u64) -> Result<Descriptor> {
    let digest: oci_spec::image::Digest =
        digest.to_string().parse().map_err(|_| Error::new("digest", "it is none"))?;
    Ok(Descriptor::new(media, size, digest))
}

/// Makes a manifest of a configuration and layers, and returns its bytes.
pub(crate) fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let manifest = oci_spec::image::ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|e| Error::new("write manifest", e.to_string()))?;
    serde_json::to_vec(&manifest).step("write manifest")
}

/// Makes the index of a layout: manifests with their names.
pub(crate) fn layout_index(all: &[(Descriptor, Option<String>)]) -> Result<Vec<u8>> {
    let mut manifests = Vec::new();
    for (descriptor, name) in all {
        let mut descriptor = descriptor.clone();
        if let Some(name) = name {
            let note = HashMap::from([(REF_NAME.to_owned(), name.clone())]);
            descriptor.set_annotations(Some(note));
        }
        manifests.push(descriptor);
    }
    let index = oci_spec::image::ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(|e| Error::new("write index", e.to_string()))?;
    serde_json::to_vec(&index).step("write index")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,
        "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;

    fn error(text: &str) -> String {
        Manifest::parse(text.as_bytes()).err().expect("refused").to_string()
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let both = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[],"manifests":[]}}"#);
        assert!(error(&both).contains("as an image and as an index"));
        let lies =
            format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}",{CONFIG},"layers":[]}}"#);
        assert!(error(&lies).contains("contradicts"));
        assert!(error(r#"{"schemaVersion":1}"#).contains("older version"));
    }

    #[test]
    fn layers_that_are_no_file_systems_are_refused() {
        let layer = CONFIG.replace("\"config\":", "").replace("config.v1+json", "config.v1+x");
        let text = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[{layer}]}}"#);
        assert!(error(&text).contains("not supported"));
    }

    #[test]
    fn a_manifest_of_ours_is_read_again() {
        let d = |m| descriptor(m, &Digest::of(b""), 0).unwrap();
        let bytes =
            manifest(d(MediaType::ImageConfig), vec![d(MediaType::ImageLayerZstd)]).unwrap();
        assert!(matches!(Manifest::parse(&bytes), Ok(Manifest::Image(m)) if m.layers().len() == 1));
    }
}
