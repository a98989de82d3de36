//! Images from files: what `docker save`, `podman save`, `skopeo copy` and we ourselves write.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::image::archive::Members;
use crate::image::config::{CONFIG_MAX, Document};
use crate::image::digest::Digest;
use crate::image::index::Layer;
use crate::image::layer::{self, Blob, Source};
use crate::image::oci::{self, MANIFEST_MAX, Manifest};
use crate::image::reference::Reference;
use crate::image::work::{Complete, Work};

/// How many indexes may lead to one another.
const NESTING_MAX: usize = 4;
/// Layers that are unpacked at the same time.
const AT_ONCE: usize = 4;

/// One image of `docker save` (its manifest.json).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image that was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its id.
    pub(crate) id: Digest,
    /// The names that it got.
    pub(crate) names: Vec<String>,
}

/// Which of the images of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Only that with this name or tag in the file.
    pub(crate) only: Option<String>,
}

/// Loads all images of an archive or directory.
pub(crate) fn load(work: &Work, path: &Path, selection: &Selection) -> Result<Vec<Loaded>> {
    let spool = work.temp("spool");
    std::fs::create_dir(&spool).step_at("create directory", &spool)?;
    let members = Members::open(path, &spool, work.rules.size_max)?;
    if members.has("manifest.json") {
        return docker(work, &members, selection);
    }
    if members.has("index.json") {
        return layout(work, &members, selection);
    }
    let hint = "a tar archive of a root directory is made an image by `runner import`";
    let what = "it is neither an OCI layout nor an archive of `docker save`";
    Err(Error::new("load", what).at(path).hint(hint))
}

fn docker(work: &Work, members: &Members, selection: &Selection) -> Result<Vec<Loaded>> {
    let bytes = members.read("manifest.json", MANIFEST_MAX)?;
    let all: Vec<Saved> =
        serde_json::from_slice(&bytes).step_at("read manifest.json of", members.path())?;
    let mut loaded = Vec::new();
    for saved in all {
        let tags = saved.repo_tags.clone().unwrap_or_default();
        if !selection.takes(tags.iter().map(String::as_str)) {
            continue;
        }
        let config = members.read(&saved.config, CONFIG_MAX)?;
        let diff_ids = Document::parse(&config)?.diff_ids()?;
        if diff_ids.len() != saved.layers.len() {
            let what = "manifest.json has not as many layers as the configuration";
            return Err(Error::new("load", what).at(members.path()));
        }
        let wanted: Vec<Wanted> = diff_ids
            .into_iter()
            .zip(&saved.layers)
            .map(|(diff_id, name)| Wanted { file: name.clone(), diff_id, blob: None })
            .collect();
        let layers = add_layers(work, members, &wanted)?;
        let names = tags
            .iter()
            .map(|t| Reference::local(t).map(|n| n.to_string()))
            .collect::<Result<Vec<_>>>()?;
        let image = Complete {
            config,
            manifest: None,
            layers,
            names: names.clone(),
            repo_digests: BTreeSet::new(),
        };
        loaded.push(Loaded { id: work.publish(image)?, names });
    }
    selection.found(loaded, members.path())
}

fn layout(work: &Work, members: &Members, selection: &Selection) -> Result<Vec<Loaded>> {
    let bytes = members.read("index.json", MANIFEST_MAX)?;
    let index: ImageIndex =
        serde_json::from_slice(&bytes).step_at("read index.json of", members.path())?;
    let mut loaded = Vec::new();
    for entry in index.manifests() {
        let note = |key: &str| entry.annotations().as_ref().and_then(|a| a.get(key)).cloned();
        let (whole, tag) = (note(oci::CONTAINERD_NAME), note(oci::REF_NAME));
        if !selection.takes([&whole, &tag].into_iter().flatten().map(String::as_str)) {
            continue;
        }
        // Docker keeps attestations beside images.
        if entry.platform().as_ref().is_some_and(|p| p.os().to_string() == "unknown") {
            continue;
        }
        let Some((manifest_bytes, manifest)) = resolve(members, entry)? else { continue };
        let name =
            whole.map(|w| Reference::local(&w)).or_else(|| tag.map(|t| named(&t, members.path())));
        let names =
            name.into_iter().map(|n| n.map(|n| n.to_string())).collect::<Result<Vec<_>>>()?;
        let image = layout_image(work, members, manifest_bytes, &manifest, names.clone())?;
        loaded.push(Loaded { id: work.publish(image)?, names });
    }
    selection.found(loaded, members.path())
}

/// Returns the name of an image in a layout: whole, or only a tag.
fn named(note: &str, path: &Path) -> Result<Reference> {
    if note.contains(['/', ':']) {
        return Reference::local(note);
    }
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let stem = stem.map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
    let stem: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let stem = stem.trim_matches('-');
    Reference::local(&format!("{}:{note}", if stem.is_empty() { "image" } else { stem }))
}

fn layout_image(
    work: &Work,
    members: &Members,
    manifest_bytes: Vec<u8>,
    manifest: &ImageManifest,
    names: Vec<String>,
) -> Result<Complete> {
    let config = blob(members, manifest.config(), CONFIG_MAX)?;
    let diff_ids = Document::parse(&config)?.diff_ids()?;
    if diff_ids.len() != manifest.layers().len() {
        let what = "the manifest has not as many layers as the configuration";
        return Err(Error::new("load", what).at(members.path()));
    }
    let mut wanted = Vec::new();
    for (diff_id, layer) in diff_ids.into_iter().zip(manifest.layers()) {
        let digest = oci::digest(layer)?;
        wanted.push(Wanted { file: blob_name(&digest), diff_id, blob: Some(digest) });
    }
    let layers = add_layers(work, members, &wanted)?;
    // Kept only where the layers are kept as it names them.
    let same = layers.iter().zip(&wanted).all(|((_, l), w)| w.blob.as_ref() == Some(&l.blob));
    let manifest = same.then_some(manifest_bytes);
    Ok(Complete { config, manifest, layers, names, repo_digests: BTreeSet::new() })
}

fn resolve(members: &Members, entry: &Descriptor) -> Result<Option<(Vec<u8>, ImageManifest)>> {
    let mut entry = entry.clone();
    for _ in 0..NESTING_MAX {
        let bytes = blob(members, &entry, MANIFEST_MAX)?;
        match Manifest::parse(&bytes)? {
            Manifest::Image(manifest) => return Ok(Some((bytes, *manifest))),
            Manifest::Index(index) => entry = oci::choose(&index)?,
        }
    }
    Err(Error::new("load", "indexes lead to indexes without end").at(members.path()))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Returns a small blob, checked.
fn blob(members: &Members, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    let digest = oci::digest(descriptor)?;
    let bytes = members.read(&blob_name(&digest), limit)?;
    if Digest::of(&bytes) != digest {
        let what = format!("the content of {} doesn't have its digest", blob_name(&digest));
        return Err(Error::new("load", what)
            .at(members.path())
            .hint("it is damaged: get it again"));
    }
    Ok(bytes)
}

/// A layer that an image needs.
struct Wanted {
    file: String,
    diff_id: Digest,
    blob: Option<Digest>,
}

/// Adds layers, several at once, and returns them in order.
fn add_layers(work: &Work, members: &Members, wanted: &[Wanted]) -> Result<Vec<(Digest, Layer)>> {
    in_parallel(wanted, |wanted| {
        let (stream, length) = members.open_file(&wanted.file)?;
        let bar = work.progress.bar(wanted.diff_id.short(), Some(length));
        let source = Source {
            stream: Box::new(bar.wrap(stream)),
            diff_id: Some(wanted.diff_id.clone()),
            blob: Blob::Keep(wanted.blob.clone()),
        };
        let added =
            layer::add(work, source).map_err(|e| Error::new(format!("load {}", wanted.file), e))?;
        bar.done("unpacked");
        Ok(added)
    })
}

/// Calls `each` for all, several at once; returns the results in order, or the first error. An item
/// that is there twice is worked on once at a time, as the second finds the work done.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    all: &[T],
    each: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let todo = Mutex::new(all.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let worker = || loop {
        let next = todo.lock().ok().and_then(|mut t| t.next());
        let Some((at, item)) = next else { return };
        let outcome = each(item);
        let failed = outcome.is_err();
        if let Ok(mut done) = done.lock() {
            done.push((at, outcome));
        }
        if failed && let Ok(mut todo) = todo.lock() {
            // What was begun ends; nothing more is begun.
            todo.by_ref().for_each(drop);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(all.len()) {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

impl Selection {
    fn takes<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| names.any(|n| n == only || n.ends_with(&format!(":{only}"))))
    }

    fn found(&self, loaded: Vec<Loaded>, path: &Path) -> Result<Vec<Loaded>> {
        match (&self.only, loaded.is_empty()) {
            (Some(only), true) => {
                Err(Error::new("load", format!("it has no image called {only}")).at(path))
            }
            (None, true) => Err(Error::new("load", "it has no image").at(path)),
            _ => Ok(loaded),
        }
    }
}
