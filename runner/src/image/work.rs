//! A command that adds content: its locks, its staging directory and its rules; and the step that
//! makes an image visible once all of it is there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::image::config::Document;
use crate::image::digest::Digest;
use crate::image::index::{Layer, Record};
use crate::image::progress::Progress;
use crate::image::staging::Staging;
use crate::image::store::{ImageStore, UseLock};
use crate::image::unpack::{Rules, Unpacked};

/// A command that adds content.
#[derive(Debug)]
pub(crate) struct Work {
    /// Where to.
    pub(crate) store: ImageStore,
    /// How layers are unpacked.
    pub(crate) rules: Rules,
    /// Who is told.
    pub(crate) progress: Progress,
    staging: Staging,
    next: AtomicU32,
    unpacked: Mutex<Unpacked>,
    _use: UseLock,
}

/// An image whose layers are in the store already.
#[derive(Debug)]
pub(crate) struct Complete {
    /// The configuration, as it came.
    pub(crate) config: Vec<u8>,
    /// The manifest, as it came.
    pub(crate) manifest: Option<Vec<u8>>,
    /// The layers, the bottom one first.
    pub(crate) layers: Vec<(Digest, Layer)>,
    /// Names that it gets.
    pub(crate) names: Vec<String>,
    /// Where it is elsewhere.
    pub(crate) repo_digests: BTreeSet<String>,
}

impl Work {
    /// Begins.
    pub(crate) fn begin(store: ImageStore, rules: Rules, progress: Progress) -> Result<Work> {
        let held = store.use_lock()?;
        let staging = store.stage()?;
        let unpacked = Mutex::new(Unpacked::default());
        Ok(Work { store, rules, progress, staging, next: AtomicU32::new(0), unpacked, _use: held })
    }

    /// Returns a path in the staging directory that nobody else uses.
    pub(crate) fn temp(&self, kind: &str) -> PathBuf {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.staging.path().join(format!("{kind}-{n}"))
    }

    /// Notes what a layer had.
    pub(crate) fn count(&self, unpacked: &Unpacked) {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).add(unpacked);
    }

    /// Makes an image visible, in one step, and returns its id.
    ///
    /// # Errors
    /// The layers are not those that the configuration names.
    pub(crate) fn publish(&self, image: Complete) -> Result<Digest> {
        let document = Document::parse(&image.config)?;
        let diff_ids: Vec<Digest> = image.layers.iter().map(|(id, _)| id.clone()).collect();
        if document.diff_ids()? != diff_ids {
            let what = "its layers are not those that its configuration names";
            return Err(
                Error::new("image", what).hint("the archive or registry is damaged, or lies")
            );
        }
        let id = self.store.write_blob(&image.config)?;
        let manifest = match &image.manifest {
            Some(bytes) => Some(self.store.write_blob(bytes)?),
            None => None,
        };
        self.store.sync()?;
        let created = document.created().to_owned();
        self.store.change(|index| {
            for (diff_id, layer) in image.layers {
                index.layers.entry(diff_id).or_insert(layer);
            }
            let record = index.images.entry(id.clone()).or_insert_with(|| Record {
                created,
                layers: diff_ids,
                ..Record::default()
            });
            record.manifest = manifest.or(record.manifest.take());
            record.repo_digests.extend(image.repo_digests);
            for name in image.names {
                index.names.insert(name, id.clone());
            }
            Ok(())
        })?;
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).warn();
        Ok(id)
    }
}
