//! Images to a registry: blobs that it has already are not sent again.

use std::fs::File;
use std::io;

use ureq::SendBody;

use super::Options;
use super::client::{Access, Client, Request};
use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::image::load::in_parallel;
use crate::image::package::{Package, Wanted};
use crate::image::reference::Reference;
use crate::image::work::Work;

/// Pushes an image and returns the digest of its manifest.
pub(crate) fn push(
    work: &Work,
    id: &Digest,
    to: &Reference,
    wanted: Wanted,
    options: &Options,
) -> Result<Digest> {
    let client = Client::new(to, Access::Push, options)?;
    let package = Package::new(work, id, wanted)?;
    let others = elsewhere(work, id, to)?;
    in_parallel(&package.layers, |layer| {
        let bar = work.progress.bar(layer.digest.short(), Some(layer.size));
        let open = || -> Result<Box<dyn io::Read>> {
            let file = File::open(&layer.file).step_at("open layer", &layer.file)?;
            bar.set(0);
            Ok(Box::new(bar.wrap(file)))
        };
        let sent = blob(&client, &layer.digest, layer.size, &others, open)?;
        bar.done(sent);
        Ok(())
    })?;
    let (config, bytes) = &package.config;
    blob(&client, config, bytes.len() as u64, &others, || {
        Ok(Box::new(io::Cursor::new(bytes.clone())))
    })?;
    let digest = package.digest();
    let word = match (&to.digest, &to.tag) {
        (Some(asked), _) if *asked != digest => {
            let what = format!("the image's digest is {digest}, and not that of the name");
            return Err(Error::new(format!("push to {to}"), what));
        }
        (Some(asked), _) => asked.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
    };
    let request = Request {
        method: "PUT",
        url: client.path(&format!("manifests/{word}")),
        headers: vec![
            ("Content-Type", package.media.clone()),
            ("Content-Length", package.manifest.len().to_string()),
        ],
    };
    client.send(&request, &[], || {
        Ok(SendBody::from_owned_reader(io::Cursor::new(package.manifest.clone())))
    })?;
    work.store.change(|index| {
        if let Some(record) = index.images.get_mut(id) {
            record.repo_digests.insert(format!("{}@{digest}", to.repository()));
        }
        Ok(())
    })?;
    Ok(digest)
}

/// Returns other repositories of the registry that have the image: they lend their blobs.
fn elsewhere(work: &Work, id: &Digest, to: &Reference) -> Result<Vec<String>> {
    let index = work.store.index()?;
    let start = format!("{}/", to.domain);
    let known = index.image(id)?.repo_digests.iter();
    let paths =
        known.filter_map(|d| d.strip_prefix(&start)?.split_once('@').map(|(p, _)| p.to_owned()));
    Ok(paths.filter(|p| *p != to.path).collect())
}

/// Sends a blob unless it is there; says what was done.
fn blob(
    client: &Client,
    digest: &Digest,
    size: u64,
    others: &[String],
    body: impl Fn() -> Result<Box<dyn io::Read>>,
) -> Result<&'static str> {
    let head = Request {
        method: "HEAD",
        url: client.path(&format!("blobs/{digest}")),
        headers: Vec::new(),
    };
    if client.call(&head, &[404])?.status().is_success() {
        return Ok("is there already");
    }
    let mut url = client.path("blobs/uploads/");
    if let Some(from) = others.first() {
        url = format!("{url}?mount={digest}&from={from}");
    }
    let begin = Request { method: "POST", url, headers: vec![("Content-Length", "0".into())] };
    let answer = client.call(&begin, &[])?;
    if answer.status().as_u16() == 201 {
        return Ok("mounted");
    }
    let location = answer.headers().get("location").and_then(|h| h.to_str().ok());
    let location =
        location.ok_or_else(|| Error::new("push", "the registry doesn't say where blobs go"))?;
    let joint = if location.contains('?') { '&' } else { '?' };
    let put = Request {
        method: "PUT",
        url: format!("{location}{joint}digest={digest}"),
        headers: vec![
            ("Content-Type", "application/octet-stream".into()),
            ("Content-Length", size.to_string()),
        ],
    };
    client.send(&put, &[], || Ok(SendBody::from_owned_reader(body()?)))?;
    Ok("pushed")
}
