//! What containers changed: diff and commit.

use std::path::PathBuf;

use serde_json::{Value, json};
use unionfs::offline::{Change, Stack, changes};

use super::args::{CommitArgs, DiffArgs};
use super::{adding, line, write_file};
use crate::cgroup::freezer;
use crate::cli::format::Format;
use crate::cli::{print, print_bytes};
use crate::error::{Context, Error, Result, best_effort, warn};
use crate::identity::as_root_of;
use crate::image::{self, About, Changed, Digest, InUse, Reference, SIZE_MAX};
use crate::spec::{Cgroup, Identity};
use crate::store::{self, Entry, Status, Store};

/// Files that the runner gives every container; changes of them are no part of an image.
const GIVEN: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Returns the images that containers are made of.
pub(super) fn in_use(store: &Store) -> Result<InUse> {
    let mut used = InUse::new();
    for entry in store::all(store)? {
        if let Some(id) = image_of(&entry) {
            used.entry(id).or_default().push(entry.name().to_owned());
        }
    }
    Ok(used)
}

fn image_of(entry: &Entry) -> Option<Digest> {
    entry.record.image.as_ref().and_then(|i| Digest::from_hex(&i.id))
}

/// Returns the paths of a container that are not part of its changes.
fn without(entry: &Entry) -> Vec<PathBuf> {
    entry.volume_targets().into_iter().chain(GIVEN.iter().map(PathBuf::from)).collect()
}

/// Runs `work` as one who can read the container's files.
fn as_owner(entry: &Entry, work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    match entry.identity() {
        Identity::Host => work(),
        Identity::Mapped(maps) => as_root_of(maps, work),
    }
}

pub(super) fn diff(args: &DiffArgs, store: &Store) -> Result<u8> {
    let entry = store::find(store, &args.container)?;
    as_owner(&entry, || {
        let upper = entry.upper();
        let list = if upper.is_dir() {
            Stack::open(&upper, &entry.layers())
                .and_then(|stack| changes(&stack.without(without(&entry))))
                .map_err(|e| Error::new(format!("diff {}", args.container), e.to_string()))?
        } else {
            Vec::new()
        };
        match Format::of(args.format.as_deref(), args.json) {
            Format::Table => print_bytes(&lines(&list))?,
            format => {
                let rows: Vec<Value> = list.iter().map(row).collect();
                print(&format.list(&[("KIND", "Kind"), ("PATH", "Path")], &rows)?)?;
            }
        }
        Ok(0)
    })
}

fn lines(list: &[Change]) -> Vec<u8> {
    let mut text = Vec::new();
    for change in list {
        text.extend_from_slice(format!("{} ", change.kind.letter()).as_bytes());
        text.extend_from_slice(change.path.as_os_str().as_encoded_bytes());
        text.push(b'\n');
    }
    text
}

/// Returns a change as JSON; bytes that are no UTF-8 are replaced.
fn row(change: &Change) -> Value {
    json!({"Kind": change.kind.letter().to_string(), "Path": change.path.to_string_lossy()})
}

pub(super) fn commit(args: &CommitArgs, store: &Store) -> Result<u8> {
    let entry = store::find(store, &args.container)?;
    let about = About {
        changes: args.about.change.clone(),
        message: args.about.message.clone(),
        author: args.author.clone(),
        name: args.name.as_deref().map(Reference::local).transpose()?,
    };
    // Outside of the user namespace, in which cgroups may be somebody else's.
    let paused = Paused::pause(&entry, args.pause);
    let done = adding(store, args.quiet, SIZE_MAX, |work| {
        let mut upper = entry.upper();
        if !upper.is_dir() {
            upper = work.temp("unchanged");
            std::fs::create_dir(&upper).step_at("create directory", &upper)?;
        }
        let changed = Changed {
            upper,
            lowers: entry.layers(),
            without: without(&entry),
            image: image_of(&entry),
            created_by: format!("runner commit {}", entry.name()),
        };
        let id = image::commit(work, &changed, &about)?;
        if let Some(file) = &args.iidfile {
            write_file(file, &id.to_string())?;
        }
        line(id.hex())?;
        Ok(0)
    });
    drop(paused);
    done
}

/// A container whose processes stand still while this lives.
struct Paused(Vec<Cgroup>);

impl Paused {
    /// Stops a container that runs; where that isn't possible, it is said and goes on.
    fn pause(entry: &Entry, wanted: bool) -> Option<Paused> {
        let cgroups = entry.state.cgroups.clone();
        // One that is paused already stays so.
        if !wanted || entry.status() != Status::Running || freezer::is_paused(&cgroups) {
            return None;
        }
        match freezer::pause(&cgroups) {
            Ok(()) => Some(Paused(cgroups)),
            Err(e) => {
                warn(format_args!("the container goes on meanwhile: {e}"));
                None
            }
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        best_effort("let the container go on", freezer::thaw(&self.0));
    }
}
