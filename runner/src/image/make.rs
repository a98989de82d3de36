//! New images: of an archive or a directory with a root file system, and of what a container changed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use unionfs::offline::{Stack, Whiteouts};

use crate::error::{Context, Error, Result, warn};
use crate::image::change;
use crate::image::config::{CONFIG_MAX, Document};
use crate::image::digest::Digest;
use crate::image::index::Layer;
use crate::image::layer::{self, Blob, Source};
use crate::image::reference::Reference;
use crate::image::time::{now, rfc3339};
use crate::image::work::{Complete, Work};

/// What a new image says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// Instructions that change its configuration.
    pub(crate) changes: Vec<String>,
    /// Why it was made.
    pub(crate) message: String,
    /// Who made it.
    pub(crate) author: String,
    /// Its name.
    pub(crate) name: Option<Reference>,
}

/// What a container changed.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// The layer with the changes.
    pub(crate) upper: PathBuf,
    /// The layers below it, the topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    /// Paths that are not part of it.
    pub(crate) without: Vec<PathBuf>,
    /// The image that it was made of.
    pub(crate) image: Option<Digest>,
    /// Where the change came from, for the history.
    pub(crate) created_by: String,
}

/// Makes an image of a root file system: an archive, `-` for standard input, or a directory.
pub(crate) fn import(work: &Work, from: &Path, about: &About) -> Result<Digest> {
    let bar = |length| work.progress.bar("import", length);
    let mut document = Document::new(&rfc3339(now()));
    let (added, done) = if from == Path::new("-") {
        let bar = bar(None);
        (add(work, Box::new(bar.wrap(io::stdin())))?, bar)
    } else if from.is_dir() {
        let none: [&Path; 0] = [];
        let stack = Stack::open(from, &none).map_err(|e| Error::new("import", e.to_string()))?;
        let bar = bar(None);
        (produce(work, &stack, &bar)?, bar)
    } else {
        let file = File::open(from).map_err(|e| {
            let hint = "give an archive, a directory, or - for standard input";
            Error::new("open", e).at(from).hint_if(nix::errno::Errno::ENOENT, hint)
        })?;
        let length = file.metadata().step_at("look at", from)?.len();
        let bar = bar(Some(length).filter(|&n| n > 0));
        let added = add(work, Box::new(bar.wrap(file)))
            .map_err(|e| Error::new(format!("import {}", from.display()), e))?;
        (added, bar)
    };
    done.done("unpacked");
    let by = json!({
        "created": document.created(),
        "created_by": format!("runner import {}", from.display()),
        "comment": about.message,
    });
    document.push_layer(&added.0, by)?;
    finish(work, document, about, vec![added])
}

/// Makes an image of what a container changed. The cost follows the change.
pub(crate) fn commit(work: &Work, changed: &Changed, about: &About) -> Result<Digest> {
    let created = rfc3339(now());
    let (mut document, mut layers) = match &changed.image {
        Some(id) => base(work, id)?,
        None => {
            return Err(Error::new(
                "commit",
                "the container was made of no image, so there is nothing to put its layer on",
            )
            .hint("make one by `runner import DIR`, and run that"));
        }
    };
    let stack = Stack::open(&changed.upper, &changed.lowers)
        .map_err(|e| Error::new("commit", e.to_string()))?
        .without(changed.without.iter().cloned());
    let bar = work.progress.bar("commit", None);
    let added = produce(work, &stack, &bar)?;
    bar.done("kept");
    document.set("created", created.clone().into());
    let mut by = json!({"created": created, "created_by": changed.created_by});
    for (key, text) in [("comment", &about.message), ("author", &about.author)] {
        if let Some(by) = by.as_object_mut()
            && !text.is_empty()
        {
            by.insert(key.into(), Value::from(text.as_str()));
        }
    }
    document.push_layer(&added.0, by)?;
    layers.push(added);
    finish(work, document, about, layers)
}

/// Returns configuration and layers of an image that is there.
fn base(work: &Work, id: &Digest) -> Result<(Document, Vec<(Digest, Layer)>)> {
    let index = work.store.index()?;
    let record = index.image(id)?;
    let document = Document::parse(&work.store.read_blob(id, CONFIG_MAX)?)?;
    let layer = |diff_id: &Digest| {
        let layer = index.layers.get(diff_id).cloned();
        let layer =
            layer.ok_or_else(|| Error::new("image", format!("its layer {diff_id} is gone")))?;
        Ok((diff_id.clone(), layer))
    };
    Ok((document, record.layers.iter().map(layer).collect::<Result<_>>()?))
}

fn add<'a>(work: &Work, stream: Box<dyn Read + Send + 'a>) -> Result<(Digest, Layer)> {
    layer::add(work, Source { stream, diff_id: None, blob: Blob::Keep(None) })
}

/// Adds what an upper changed: one thread writes the archive, and others keep and unpack it.
fn produce(
    work: &Work,
    stack: &Stack,
    bar: &crate::image::progress::Bar,
) -> Result<(Digest, Layer)> {
    let (reader, writer) = io::pipe().step("make a pipe")?;
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            unionfs::offline::export(
                stack,
                Whiteouts::Oci,
                BufWriter::with_capacity(1 << 16, writer),
            )
        });
        let added = add(work, Box::new(bar.wrap(reader)));
        let exported =
            producer.join().map_err(|_| Error::new("read changes", "a thread failed"))?;
        match (exported, added) {
            (Ok(done), Ok(added)) => {
                if done.sockets > 0 {
                    warn(format_args!(
                        "{} sockets were left out: images can't have them",
                        done.sockets
                    ));
                }
                Ok(added)
            }
            // The producer fails as well when nobody reads what it writes.
            (Err(unionfs::offline::OfflineError::Output(e)), Err(first))
                if e.kind() == io::ErrorKind::BrokenPipe =>
            {
                Err(first)
            }
            (Err(e), _) => Err(Error::new("read changes", e.to_string())),
            (Ok(_), Err(e)) => Err(e),
        }
    })
}

fn finish(
    work: &Work,
    mut document: Document,
    about: &About,
    layers: Vec<(Digest, Layer)>,
) -> Result<Digest> {
    for instruction in &about.changes {
        change::apply(&mut document, instruction)?;
    }
    if !about.author.is_empty() {
        document.set("author", about.author.clone().into());
    }
    let names = about.name.iter().map(ToString::to_string).collect();
    work.publish(Complete {
        config: document.to_bytes()?,
        manifest: None,
        layers,
        names,
        repo_digests: BTreeSet::new(),
    })
}
