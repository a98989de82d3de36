//! What containers changed: diff and commit.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use unionfs::offline::{Stack, changes};

use super::args::{CommitArgs, DiffArgs};
use super::{adding, line, write_file};
use crate::cli::format::Format;
use crate::cli::{print, print_bytes};
use crate::error::{Context, Error, Result};
use crate::image::{self, About, Changed, Digest, InUse, Reference, SIZE_MAX, as_root_of};
use crate::spec::Identity;
use crate::store::Store;

/// Files that the runner gives every container; changes of them are no part of an image.
const GIVEN: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// What is written of a container, as far as its changes are concerned.
#[derive(Debug, Deserialize)]
struct Record {
    id: String,
    name: String,
    image: Option<ImageRef>,
    identity: Identity,
    request: Request,
}

#[derive(Debug, Deserialize)]
struct ImageRef {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Request {
    upper: Option<PathBuf>,
    root: Root,
    #[serde(default)]
    volumes: Vec<Covered>,
    #[serde(default)]
    tmpfs: Vec<Covered>,
}

#[derive(Debug, Deserialize)]
enum Root {
    Host,
    Layers(Vec<PathBuf>),
}

#[derive(Debug, Deserialize)]
struct Covered {
    target: std::ffi::OsString,
}

/// A container on disk.
struct Container {
    dir: PathBuf,
    record: Record,
}

impl Container {
    /// Returns the directory of its changes, if there were any yet.
    fn upper(&self) -> Option<PathBuf> {
        let theirs = self.record.request.upper.clone();
        Some(theirs.unwrap_or_else(|| self.dir.join("upper"))).filter(|u| u.is_dir())
    }

    fn lowers(&self) -> Vec<PathBuf> {
        match &self.record.request.root {
            Root::Host => vec![PathBuf::from("/")],
            Root::Layers(all) => all.clone(),
        }
    }

    fn without(&self) -> Vec<PathBuf> {
        let request = &self.record.request;
        let covered =
            request.volumes.iter().chain(&request.tmpfs).map(|c| PathBuf::from(&c.target));
        covered.chain(GIVEN.iter().map(PathBuf::from)).collect()
    }
}

/// Returns all containers.
fn all(store: &Store) -> Result<Vec<Container>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(store.dir().join("containers")).into_iter().flatten().flatten() {
        let path = entry.path().join("record.json");
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let record = serde_json::from_slice(&bytes).step_at("read", &path)?;
        found.push(Container { dir: entry.path(), record });
    }
    Ok(found)
}

/// Finds a container by name, id, or the start of an id that no other has.
fn find(store: &Store, word: &str) -> Result<Container> {
    let mut found = all(store)?;
    if let Some(at) = found.iter().position(|c| c.record.name == word) {
        return Ok(found.swap_remove(at));
    }
    found.retain(|c| word.len() >= 2 && c.record.id.starts_with(word));
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(Error::new(format!("container {word}"), "several ids begin so")
            .hint("write more of the id")),
        (None, _) => Err(Error::new(format!("container {word}"), "there is no such container")
            .hint("see `runner ps --all`; one that was run with --rm is gone with its changes")),
    }
}

/// Returns the images that containers are made of.
pub(super) fn in_use(store: &Store) -> Result<InUse> {
    let mut used = InUse::new();
    for container in all(store)? {
        let image = container.record.image.as_ref().and_then(|i| Digest::from_hex(&i.id));
        if let Some(id) = image {
            used.entry(id).or_default().push(container.record.name);
        }
    }
    Ok(used)
}

/// Runs `work` as one who can read the container's files.
fn as_owner(container: &Container, work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    match &container.record.identity {
        Identity::Host => work(),
        Identity::Mapped(maps) => as_root_of(maps, work),
    }
}

pub(super) fn diff(args: &DiffArgs, store: &Store) -> Result<u8> {
    let container = find(store, &args.container)?;
    let Some(upper) = container.upper() else {
        return if args.json || args.format.as_deref() == Some("json") {
            line("[]").map(|()| 0)
        } else {
            Ok(0)
        };
    };
    as_owner(&container, || {
        let list = Stack::open(&upper, &container.lowers())
            .and_then(|stack| changes(&stack.without(container.without())))
            .map_err(|e| Error::new(format!("diff {}", args.container), e.to_string()))?;
        let rows: Vec<Value> = list.iter().map(row).collect();
        match Format::of(args.format.as_deref(), args.json) {
            Format::Table => {
                let mut text = Vec::new();
                for change in &list {
                    text.extend_from_slice(format!("{} ", change.kind.letter()).as_bytes());
                    text.extend_from_slice(change.path.as_os_str().as_encoded_bytes());
                    text.push(b'\n');
                }
                print_bytes(&text)?;
            }
            format => print(&format.list(&[("KIND", "Kind"), ("PATH", "Path")], &rows)?)?,
        }
        Ok(0)
    })
}

/// Returns a change as JSON; bytes that are no UTF-8 are replaced.
fn row(change: &unionfs::offline::Change) -> Value {
    json!({"Kind": change.kind.letter().to_string(), "Path": change.path.to_string_lossy()})
}

pub(super) fn commit(args: &CommitArgs, store: &Store) -> Result<u8> {
    let container = find(store, &args.container)?;
    let about = About {
        changes: args.about.change.clone(),
        message: args.about.message.clone(),
        author: args.author.clone(),
        name: args.name.as_deref().map(Reference::local).transpose()?,
    };
    let image = container.record.image.as_ref().and_then(|i| Digest::from_hex(&i.id));
    adding(store, args.quiet, SIZE_MAX, |work| {
        let empty = work.temp("unchanged");
        let upper = match container.upper() {
            Some(upper) => upper,
            None => {
                std::fs::create_dir(&empty).step_at("create directory", &empty)?;
                empty
            }
        };
        let changed = Changed {
            upper,
            lowers: container.lowers(),
            without: container.without(),
            image,
            created_by: format!("runner commit {}", container.record.name),
        };
        let id = image::commit(work, &changed, &about)?;
        if let Some(file) = &args.iidfile {
            write_file(file, &id.to_string())?;
        }
        line(id.hex())?;
        Ok(0)
    })
}
