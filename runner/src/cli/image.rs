//! The verbs on images: their options, and what is done with them.

mod args;
mod container;
mod local;
mod transfer;

use std::path::Path;

use clap::Subcommand;

use crate::error::{Context, Error, Result};
use crate::image::{ImageStore, Progress, Rules, Work, inside};
use crate::store::Store;

use args::{
    CommitArgs, DiffArgs, HistoryArgs, ImportArgs, InspectArgs, ListArgs, LoadArgs, PruneArgs,
    PullArgs, PushArgs, RemoveArgs, SaveArgs, TagArgs, UntagArgs,
};

/// Verbs on images.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Get an image from a registry
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
    /// Get images from an archive or an OCI layout
    Load(LoadArgs),
    /// Write images to an archive or an OCI layout
    Save(SaveArgs),
    /// Make an image of a root file system
    Import(ImportArgs),
    /// List images
    Images(ListArgs),
    /// Remove images
    Rmi(RemoveArgs),
    /// Give an image one more name
    Tag(TagArgs),
    /// Take names from an image
    Untag(UntagArgs),
    /// Show the steps by which an image came to be
    History(HistoryArgs),
    /// Make an image of what a container changed
    Commit(CommitArgs),
    /// List what a container added (A), changed (C) and deleted (D)
    Diff(DiffArgs),
    /// Work on images
    #[command(subcommand)]
    Image(ImageVerb),
}

/// Verbs after `image`.
#[derive(Debug, Subcommand)]
pub(super) enum ImageVerb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Remove images
    Rm(RemoveArgs),
    /// Remove images that have no name, or that no container uses
    Prune(PruneArgs),
    /// Show all that is known of images
    Inspect(InspectArgs),
    /// Show the steps by which an image came to be
    History(HistoryArgs),
    /// Say by the exit code whether there is an image: 0, or 1
    Exists {
        /// Name or id
        image: String,
    },
    /// Get an image from a registry
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
    /// Get images from an archive or an OCI layout
    Load(LoadArgs),
    /// Write images to an archive or an OCI layout
    Save(SaveArgs),
    /// Make an image of a root file system
    Import(ImportArgs),
    /// Give an image one more name
    Tag(TagArgs),
    /// Take names from an image
    Untag(UntagArgs),
}

/// Runs a verb and returns its exit code.
pub(super) fn run(verb: Verb, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    match verb {
        Verb::Pull(args) => transfer::pull(&args, &store),
        Verb::Push(args) => transfer::push(&args, &store),
        Verb::Load(args) => transfer::load(&args, &store),
        Verb::Save(args) => transfer::save(&args, &store),
        Verb::Import(args) => transfer::import(&args, &store),
        Verb::Images(args) => local::list(&args, &store),
        Verb::Rmi(args) => local::remove(&args, &store),
        Verb::Tag(args) => local::tag(&args, &store),
        Verb::Untag(args) => local::untag(&args, &store),
        Verb::History(args) => local::history(&args, &store),
        Verb::Commit(args) => container::commit(&args, &store),
        Verb::Diff(args) => container::diff(&args, &store),
        Verb::Image(verb) => run_image(verb, &store),
    }
}

fn run_image(verb: ImageVerb, store: &Store) -> Result<u8> {
    match verb {
        ImageVerb::Ls(args) => local::list(&args, store),
        ImageVerb::Rm(args) => local::remove(&args, store),
        ImageVerb::Prune(args) => local::prune(&args, store),
        ImageVerb::Inspect(args) => local::inspect(&args.images, args.format.as_deref(), store),
        ImageVerb::History(args) => local::history(&args, store),
        ImageVerb::Exists { image } => local::exists(&image, store),
        ImageVerb::Pull(args) => transfer::pull(&args, store),
        ImageVerb::Push(args) => transfer::push(&args, store),
        ImageVerb::Load(args) => transfer::load(&args, store),
        ImageVerb::Save(args) => transfer::save(&args, store),
        ImageVerb::Import(args) => transfer::import(&args, store),
        ImageVerb::Tag(args) => local::tag(&args, store),
        ImageVerb::Untag(args) => local::untag(&args, store),
    }
}

/// Runs a verb that adds content, with its locks and rules.
fn adding(
    store: &Store,
    quiet: bool,
    size_max: u64,
    work: impl FnOnce(&Work) -> Result<u8>,
) -> Result<u8> {
    let images = ImageStore::of(store);
    inside(size_max, |rules: Rules| {
        let progress = if quiet { Progress::quiet() } else { Progress::on_terminal() };
        work(&Work::begin(images, rules, progress)?)
    })
}

/// Writes a line to standard output.
fn line(text: impl std::fmt::Display) -> Result<()> {
    super::print(&format!("{text}\n"))
}

/// Writes a small file, such as one with an id.
fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).step_at("write", path)
}

/// Reports each failure, and returns the exit code of all.
fn each<T>(all: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<u8> {
    let mut failed: Option<Error> = None;
    for item in all {
        if let Err(e) = work(item)
            && let Some(before) = failed.replace(e)
        {
            crate::error::say(before);
        }
    }
    failed.map_or(Ok(0), Err)
}
