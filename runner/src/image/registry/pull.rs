//! Images from a registry: each blob is verified by its digest before anything reads it, and the rest
//! of one that broke off is asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use sha2::{Digest as _, Sha256};

use super::Options;
use super::client::{Access, Client, Request};
use crate::error::{Context, Error, Result};
use crate::image::config::{CONFIG_MAX, Document};
use crate::image::digest::Digest;
use crate::image::index::Layer;
use crate::image::layer::{self, Blob, Source};
use crate::image::load::in_parallel;
use crate::image::oci::{self, MANIFEST_MAX, Manifest};
use crate::image::reference::Reference;
use crate::image::work::{Complete, Work};

/// How often a blob is gone on with where nothing more came.
const STALLS_MAX: u32 = 5;

/// Pulls an image and returns its id.
pub(crate) fn pull(work: &Work, reference: &Reference, options: &Options) -> Result<Digest> {
    let client = Client::new(reference, Access::Pull, options)?;
    let word = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
    };
    let top = manifest(&client, &word, reference.digest.as_ref())?;
    let top_digest = Digest::of(&top);
    let mut digests = BTreeSet::from([format!("{}@{top_digest}", reference.repository())]);
    let (bytes, image) = match Manifest::parse(&top)? {
        Manifest::Image(image) => (top, image),
        Manifest::Index(index) => {
            let digest = oci::digest(&oci::choose(&index)?)?;
            let bytes = manifest(&client, &digest.to_string(), Some(&digest))?;
            digests.insert(format!("{}@{digest}", reference.repository()));
            match Manifest::parse(&bytes)? {
                Manifest::Image(image) => (bytes, image),
                Manifest::Index(_) => {
                    return Err(Error::new("pull", "an index leads to an index: refused"));
                }
            }
        }
    };
    let config = config(work, &client, &image)?;
    let layers = layers(work, &client, &image, &Document::parse(&config)?.diff_ids()?)?;
    let same = layers
        .iter()
        .zip(image.layers())
        .all(|((_, l), d)| oci::digest(d).is_ok_and(|d| d == l.blob));
    let names = match reference.digest {
        Some(_) => Vec::new(),
        None => vec![reference.to_string()],
    };
    work.publish(Complete {
        config,
        manifest: same.then_some(bytes),
        layers,
        names,
        repo_digests: digests,
    })
}

/// Gets a manifest by tag or digest.
fn manifest(client: &Client, word: &str, expected: Option<&Digest>) -> Result<Vec<u8>> {
    let types = [
        MediaType::ImageManifest.to_string(),
        MediaType::ImageIndex.to_string(),
        oci::DOCKER_MANIFEST.to_owned(),
        oci::DOCKER_LIST.to_owned(),
    ];
    let request = Request {
        method: "GET",
        url: client.path(&format!("manifests/{word}")),
        headers: vec![("Accept", types.join(", "))],
    };
    let mut answer = client.call(&request, &[])?;
    let said = answer
        .headers()
        .get("docker-content-digest")
        .and_then(|h| h.to_str().ok())
        .map(str::to_owned);
    let bytes = answer.body_mut().with_config().limit(MANIFEST_MAX).read_to_vec();
    let bytes = bytes.map_err(|e| Error::new(format!("read manifest {word}"), e.to_string()))?;
    let got = Digest::of(&bytes);
    let said = said.and_then(|s| s.parse::<Digest>().ok());
    if let Some(expected) = expected.or(said.as_ref())
        && *expected != got
    {
        let what = format!("its digest is {got}, and not {expected} as was said");
        return Err(
            Error::new(format!("manifest {word}"), what).hint("the registry is damaged, or lies")
        );
    }
    Ok(bytes)
}

fn config(work: &Work, client: &Client, image: &ImageManifest) -> Result<Vec<u8>> {
    let digest = oci::digest(image.config())?;
    if work.store.index()?.images.contains_key(&digest) {
        return work.store.read_blob(&digest, CONFIG_MAX);
    }
    if image.config().size() > CONFIG_MAX {
        return Err(Error::new("pull", "the configuration is too large"));
    }
    let path = work.temp("config");
    download(work, client, image.config(), &path)?;
    std::fs::read(&path).step_at("read", &path)
}

fn layers(
    work: &Work,
    client: &Client,
    image: &ImageManifest,
    diff_ids: &[Digest],
) -> Result<Vec<(Digest, Layer)>> {
    if diff_ids.len() != image.layers().len() {
        return Err(Error::new("pull", "the manifest has not as many layers as the configuration"));
    }
    let wanted: Vec<_> = diff_ids.iter().zip(image.layers()).collect();
    in_parallel(&wanted, |(diff_id, descriptor)| {
        let digest = oci::digest(descriptor)?;
        if let Some(layer) = layer::known(work, diff_id)? {
            return Ok(((*diff_id).clone(), layer));
        }
        let path = work.temp("download");
        download(work, client, descriptor, &path)?;
        let stream = Box::new(File::open(&path).step_at("open", &path)?);
        let blob = Blob::Staged(path, digest, descriptor.size());
        layer::add(work, Source { stream, diff_id: Some((*diff_id).clone()), blob })
    })
}

/// Gets a blob and checks it.
fn download(work: &Work, client: &Client, descriptor: &Descriptor, to: &Path) -> Result<()> {
    let digest = oci::digest(descriptor)?;
    let size = descriptor.size();
    let bar = work.progress.bar(digest.short(), Some(size));
    let mut file = File::create_new(to).step_at("create", to)?;
    let mut hasher = Sha256::new();
    let (mut have, mut stalls) = (0u64, 0);
    while have < size || size == 0 {
        let before = have;
        let mut request = Request {
            method: "GET",
            url: client.path(&format!("blobs/{digest}")),
            headers: Vec::new(),
        };
        if have > 0 {
            request.headers.push(("Range", format!("bytes={have}-")));
        }
        let answer = client.call(&request, &[416])?;
        if have > 0 && !continues(&answer, have) {
            // It begins anew.
            file.set_len(0).and_then(|()| file.rewind()).step_at("write", to)?;
            (hasher, have) = (Sha256::new(), 0);
            bar.set(0);
            if answer.status().as_u16() != 200 {
                stalls += 1;
                if stalls > STALLS_MAX {
                    return Err(Error::new(
                        format!("get blob {digest}"),
                        "the registry can't go on where it broke off",
                    ));
                }
                continue;
            }
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 128 * 1024];
        let broke = loop {
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    let part = buffer.get(..n).unwrap_or_default();
                    have += n as u64;
                    if have > size {
                        return Err(Error::new(
                            format!("get blob {digest}"),
                            format!("it has more than the {size} bytes that were said"),
                        ));
                    }
                    file.write_all(part).step_at("write", to)?;
                    hasher.update(part);
                    bar.add(n as u64);
                }
                Err(e) => break Some(e),
            }
        };
        if size == 0 {
            break;
        }
        stalls = if have > before { 0 } else { stalls + 1 };
        if stalls > STALLS_MAX {
            let why = broke.map_or_else(|| "it ends too early".to_owned(), |e| e.to_string());
            return Err(Error::new(format!("get blob {digest}"), why));
        }
    }
    let got = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>();
    if got != digest.hex() {
        return Err(Error::new(
            format!("blob {digest}"),
            format!("what came has the digest sha256:{got}"),
        )
        .hint("it was damaged on the way, or the registry lies"));
    }
    bar.done("pulled");
    Ok(())
}

/// Whether an answer goes on where the blob broke off.
fn continues(answer: &ureq::http::Response<ureq::Body>, have: u64) -> bool {
    let range = answer.headers().get("content-range").and_then(|h| h.to_str().ok()).unwrap_or("");
    answer.status().as_u16() == 206 && range.starts_with(&format!("bytes {have}-"))
}
