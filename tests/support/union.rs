//! Layers from text, mounted as a union of a [`Subject`]: what most tests start from.

use std::path::{Path, PathBuf};

use crate::mount::Mounted;
use crate::scratch::Scratch;
use crate::subject::{Layers, Subject};
use crate::tree::{self, Show, Tree};

/// Lays out a [`Union`].
#[derive(Debug)]
pub struct Builder {
    subject: Subject,
    scratch: Scratch,
    layers: Layers,
}

impl Builder {
    /// Adds a lower layer below those added before.
    pub fn layer(mut self, spec: &str) -> Builder {
        let dir = self.scratch.dir(&format!("lower{}", self.layers.lowers.len()));
        tree::write(&dir, spec);
        self.layers.lowers.push(dir);
        self
    }

    /// Adds an existing directory as the lowest layer so far.
    pub fn lower_at(mut self, dir: &Path) -> Builder {
        self.layers.lowers.push(dir.to_path_buf());
        self
    }

    /// Fills the upper layer.
    pub fn upper(self, spec: &str) -> Builder {
        if let Some((upper, _)) = &self.layers.upper {
            tree::write(upper, spec);
        }
        self
    }

    /// Leaves upper and work directory out: a read-only mount.
    pub fn read_only(mut self) -> Builder {
        self.layers.upper = None;
        self
    }

    /// Puts upper and work directory into another directory, for instance on another file system.
    pub fn upper_in(mut self, dir: &Path) -> Builder {
        let pair = (dir.join("upper"), dir.join("work"));
        std::fs::create_dir_all(&pair.0).expect("make the upper directory");
        std::fs::create_dir_all(&pair.1).expect("make the work directory");
        self.layers.upper = Some(pair);
        self
    }

    /// Returns the layers, for what the builder doesn't lay out.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Adds a mount option.
    pub fn option(mut self, option: &str) -> Builder {
        self.layers.options.push(option.to_owned());
        self
    }

    /// Mounts.
    ///
    /// # Panics
    /// It can't be mounted.
    pub fn mount(self) -> Union {
        let name = self.subject.name();
        self.try_mount().unwrap_or_else(|e| panic!("mount {name}: {e}"))
    }

    /// Mounts, or says why not.
    ///
    /// # Errors
    /// What the kernel or the daemon said.
    pub fn try_mount(mut self) -> Result<Union, String> {
        if self.layers.lowers.is_empty() {
            self = self.layer("");
        }
        let point = self.scratch.dir("mnt");
        let mounted = Mounted::new(&self.subject, &self.layers, &point)?;
        let Builder { subject, scratch, layers } = self;
        Ok(Union { mounted: Some(mounted), subject, layers, point, scratch })
    }

    /// Returns the scratch directory, for what the builder doesn't lay out.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

/// A mounted union and its layers.
#[derive(Debug)]
pub struct Union {
    // Dropped in this order: first the mount, last the directory.
    mounted: Option<Mounted>,
    subject: Subject,
    layers: Layers,
    point: PathBuf,
    scratch: Scratch,
}

impl Union {
    /// Starts laying out a union of `subject`.
    pub fn on(subject: &Subject) -> Builder {
        Union::within(subject, Scratch::new())
    }

    /// As [`Union::on`], in the given scratch directory.
    pub fn within(subject: &Subject, scratch: Scratch) -> Builder {
        let upper = Some((scratch.dir("upper"), scratch.dir("work")));
        let layers = Layers { upper, ..Layers::default() };
        Builder { subject: subject.clone(), scratch, layers }
    }

    /// Returns the mount point.
    pub fn root(&self) -> &Path {
        &self.point
    }

    /// Returns the path of something in the union.
    pub fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// Returns the path of something in the upper layer.
    pub fn upper(&self, name: &str) -> PathBuf {
        self.layers.upper.as_ref().expect("a writable union").0.join(name)
    }

    /// Returns the path of something in the work directory.
    pub fn work(&self, name: &str) -> PathBuf {
        self.layers.upper.as_ref().expect("a writable union").1.join(name)
    }

    /// Returns the path of something in a lower layer (0 is the topmost).
    pub fn lower(&self, index: usize, name: &str) -> PathBuf {
        self.layers.lowers[index].join(name)
    }

    /// Returns the layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Returns the scratch directory that holds everything.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Returns the mount.
    ///
    /// # Panics
    /// It was taken or unmounted.
    pub fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("a mounted union")
    }

    /// Takes the mount out, to end it in another way than by dropping.
    ///
    /// # Panics
    /// It was taken or unmounted before.
    pub fn take_mount(&mut self) -> Mounted {
        self.mounted.take().expect("a mounted union")
    }

    /// Unmounts; the layers stay.
    pub fn unmount(&mut self) {
        self.take_mount().unmount();
    }

    /// Unmounts and mounts again.
    pub fn remount(&mut self) {
        self.swap(&self.subject.clone());
    }

    /// Mounts again if it is unmounted.
    pub fn mount(&mut self) {
        let mounted = Mounted::new(&self.subject, &self.layers, &self.point);
        let name = self.subject.name();
        self.mounted = Some(mounted.unwrap_or_else(|e| panic!("mount {name}: {e}")));
    }

    /// Unmounts, and mounts the same layers as another subject.
    pub fn swap(&mut self, subject: &Subject) {
        if self.mounted.is_some() {
            self.unmount();
        }
        self.subject = subject.clone();
        self.mount();
    }

    /// Returns the whole tree as text.
    pub fn text(&self) -> String {
        Tree::read(&self.point).text(&Show::default())
    }

    /// Asserts that the union, or the directory `below` in it, looks as the literal says.
    ///
    /// # Panics
    /// It differs; the message shows where.
    pub fn assert_tree(&self, below: &str, literal: &str) {
        tree::assert_looks_like(&self.path(below), literal);
    }
}
