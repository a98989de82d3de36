//! From an archive to a layer's directory. What an archive says is believed nowhere: every name is
//! opened part by part without following a symlink, so nothing is ever made outside.

mod dirs;
mod file;
mod marks;
mod metadata;
mod path;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use sys::openat::{Confine, open_confined};
use unionfs::layer::tree::remove_tree;

use crate::error::{Context, Error, Result, warn};
use crate::image::archive::{Entries, Entry, Kind};

use dirs::Dirs;
use marks::{Marks, Purpose, purpose};
use metadata::Attributes;
use path::Clean;

/// Most entries that a layer may have: each costs an inode.
const ENTRIES_MAX: u64 = 4_000_000;

/// Who unpacks, and how much at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whose files there can be.
    pub(crate) owners: Owners,
    /// Root of the host unpacks, who may make devices and attributes in `trusted.`.
    pub(crate) privileged: bool,
    /// Bytes that the files of a layer may have.
    pub(crate) size_max: u64,
}

/// Whose files there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Anybody's that the id map has.
    Mapped,
    /// Only root's: there is one id.
    RootOnly,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of all files.
    pub(crate) size: u64,
    /// Entries.
    pub(crate) entries: u64,
    /// Devices that were left out, as only root of the host can make them.
    pub(crate) devices: u64,
    /// Objects of other owners that became root's.
    pub(crate) squashed: u64,
    /// Attributes that this file system or user can't set.
    pub(crate) attributes: u64,
}

impl Unpacked {
    /// Tells the user what is not as in the archive.
    pub(crate) fn warn(&self) {
        if self.devices > 0 {
            warn(format_args!(
                "{} device nodes were left out: only root can make them",
                self.devices
            ));
        }
        if self.squashed > 0 {
            let why = "this user has no subordinate ids (/etc/subuid, /etc/subgid)";
            warn(format_args!("{} files of other owners became root's: {why}", self.squashed));
        }
        if self.attributes > 0 {
            let why = "this user or file system can't set them";
            warn(format_args!("{} extended attributes were left out: {why}", self.attributes));
        }
    }

    /// Adds what another layer had.
    pub(crate) fn add(&mut self, other: &Unpacked) {
        self.size += other.size;
        self.entries += other.entries;
        self.devices += other.devices;
        self.squashed += other.squashed;
        self.attributes += other.attributes;
    }
}

/// Unpacks an archive into an empty directory.
///
/// # Errors
/// The archive is broken or hostile, or the directory can't hold it; what was unpacked so far stays.
pub(crate) fn unpack(stream: impl Read, into: &Path, rules: Rules) -> Result<Unpacked> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let root = sys::openat::open_at(nix::fcntl::AT_FDCWD, into.as_os_str(), flags, 0)
        .step_at("open", into)?;
    let marks = Marks::probe(&root).step_at("try what the file system takes, in", into)?;
    let root = Arc::new(root);
    let mut unpacker = Unpacker {
        dirs: Dirs::new(Arc::clone(&root), marks),
        root,
        marks,
        rules,
        done: Unpacked::default(),
        buffer: vec![0; file::BUFFER],
    };
    sys::name::chmod_fd(&unpacker.root, 0o755).step_at("chmod", into)?;
    let mut entries = Entries::new(stream);
    while let Some(entry) = entries.next_entry()? {
        unpacker.entry(&entry, &mut entries)?;
    }
    unpacker.dirs.set_times()?;
    Ok(unpacker.done)
}

struct Unpacker {
    root: Arc<OwnedFd>,
    dirs: Dirs,
    marks: Marks,
    rules: Rules,
    done: Unpacked,
    buffer: Vec<u8>,
}

/// Where an entry goes.
struct Target<'a> {
    dir: Arc<OwnedFd>,
    name: &'a OsStr,
    path: &'a Clean,
}

impl Target<'_> {
    /// Returns the error of a step on this entry.
    fn fail(&self, step: &str, e: Errno) -> Error {
        Error::new(step, e).at(self.path.shown())
    }
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &Entry, data: &mut Entries<R>) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > ENTRIES_MAX {
            let what = format!("it has more than {ENTRIES_MAX} entries");
            return Err(Error::new("unpack layer", what));
        }
        let path = Clean::new(&entry.path)?;
        let attributes = Attributes::of(entry, &path, self.rules)?;
        let Some((name, parents)) = path.split() else { return self.top(entry, &path, attributes) };
        match purpose(name, entry, &attributes) {
            Purpose::Ignore => return Ok(()),
            Purpose::Broken => {
                let what = "a whiteout without a name";
                return Err(Error::new("unpack layer", what).at(path.shown()));
            }
            Purpose::Opaque => {
                let dir = self.dirs.open(parents, &path)?;
                return self
                    .marks
                    .make_opaque(&dir)
                    .map_err(|e| Error::new("mark a directory as opaque", e).at(path.shown()));
            }
            Purpose::Whiteout(hidden) => {
                let dir = self.dirs.open(parents, &path)?;
                return self.whiteout(&Target { dir, name: hidden, path: &path });
            }
            Purpose::Object => {}
        }
        let dir = self.dirs.open(parents, &path)?;
        self.object(entry, data, attributes, &Target { dir, name, path: &path })
    }

    /// The root of the layer itself.
    fn top(&mut self, entry: &Entry, path: &Clean, attributes: Attributes) -> Result<()> {
        if entry.kind != Kind::Dir {
            return Err(Error::new("unpack layer", "its root is no directory").at(path.shown()));
        }
        let target = Target { dir: Arc::clone(&self.root), name: OsStr::new(""), path };
        self.finish(entry, &attributes, &target)?;
        if attributes.is_opaque {
            self.marks.make_opaque(&self.root).map_err(|e| target.fail("mark as opaque", e))?;
        }
        self.dirs.time_later(path, entry.mtime);
        Ok(())
    }

    /// Hides what lower layers have at a name; what this layer has there stays.
    fn whiteout(&mut self, at: &Target<'_>) -> Result<()> {
        match sys::stat::stat_at(&at.dir, at.name) {
            Err(Errno::ENOENT) => {
                self.marks.whiteout(&at.dir, at.name).map_err(|e| at.fail("make whiteout", e))
            }
            Ok(s) if s.is_dir() => {
                let dir = open_dir(&at.dir, at.name).map_err(|e| at.fail("open", e))?;
                self.marks.make_opaque(&dir).map_err(|e| at.fail("mark as opaque", e))
            }
            // Whatever is no directory hides what is below it.
            Ok(_) => Ok(()),
            Err(e) => Err(at.fail("look at", e)),
        }
    }

    fn object<R: Read>(
        &mut self,
        entry: &Entry,
        data: &mut Entries<R>,
        attributes: Attributes,
        at: &Target<'_>,
    ) -> Result<()> {
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, at);
        }
        let standing = self.clear(entry.kind, at)?;
        if self.leaves_out(entry) {
            self.done.devices += 1;
            return Ok(());
        }
        let made = match entry.kind {
            Kind::File => return self.file(entry, data, &attributes, at),
            Kind::Dir if standing == Standing::Dir => Ok(()),
            Kind::Dir => sys::name::mkdir(&at.dir, at.name, 0o700),
            Kind::Symlink => {
                check_link(entry, at)?;
                let link = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&entry.link);
                sys::name::symlink(link, &at.dir, at.name)
            }
            Kind::Fifo => sys::name::mknod(&at.dir, at.name, libc::S_IFIFO | 0o600, 0),
            Kind::Char | Kind::Block => {
                let kind = if entry.kind == Kind::Char { libc::S_IFCHR } else { libc::S_IFBLK };
                let (major, minor) = entry.device;
                sys::name::mknod(&at.dir, at.name, kind | 0o600, libc::makedev(major, minor))
            }
            Kind::HardLink => Ok(()),
        };
        made.map_err(|e| at.fail("make", e))?;
        self.finish(entry, &attributes, at)?;
        if entry.kind != Kind::Dir {
            return metadata::set_mtime(at, entry.mtime);
        }
        if attributes.is_opaque || standing == Standing::Whiteout {
            let dir = open_dir(&at.dir, at.name).map_err(|e| at.fail("open", e))?;
            self.marks.make_opaque(&dir).map_err(|e| at.fail("mark as opaque", e))?;
        }
        self.dirs.time_later(at.path, entry.mtime);
        Ok(())
    }

    /// Devices need root of the host.
    fn leaves_out(&self, entry: &Entry) -> bool {
        matches!(entry.kind, Kind::Char | Kind::Block) && !self.rules.privileged
    }

    /// Makes room for an entry: the last of several with one name counts, as tar has it.
    fn clear(&mut self, kind: Kind, at: &Target<'_>) -> Result<Standing> {
        let stat = match sys::stat::stat_at(&at.dir, at.name) {
            Err(Errno::ENOENT) => return Ok(Standing::Nothing),
            r => r.map_err(|e| at.fail("look at", e))?,
        };
        if stat.is_dir() && kind == Kind::Dir {
            return Ok(Standing::Dir);
        }
        self.dirs.forget(at.path);
        remove_tree(&at.dir, at.name).map_err(|e| at.fail("replace", e))?;
        Ok(if stat.is_whiteout_device() { Standing::Whiteout } else { Standing::Nothing })
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        data: &mut Entries<R>,
        attributes: &Attributes,
        at: &Target<'_>,
    ) -> Result<()> {
        self.done.size = self.done.size.saturating_add(entry.size);
        if self.done.size > self.rules.size_max {
            let what = format!("its files have more than {} bytes", self.rules.size_max);
            return Err(Error::new("unpack layer", what)
                .at(at.path.shown())
                .hint("allow more by --max-size, if you trust it"));
        }
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
        let out =
            sys::openat::open_at(&at.dir, at.name, flags, 0o600).map_err(|e| at.fail("make", e))?;
        file::write(entry, data, &out, &mut self.buffer, at)?;
        self.finish(entry, attributes, at)?;
        metadata::set_mtime(at, entry.mtime)
    }

    fn hard_link(&mut self, entry: &Entry, at: &Target<'_>) -> Result<()> {
        let bad = |what: &str| {
            let link = String::from_utf8_lossy(&entry.link);
            Err(Error::new("unpack layer", format!("hard link to {link:?}: {what}"))
                .at(at.path.shown()))
        };
        let target = Clean::new(&entry.link)?;
        let Some((name, parents)) = target.split() else { return bad("it is the root") };
        if target.parts() == at.path.parts() {
            return Ok(());
        }
        let dir = if parents.is_empty() {
            Arc::clone(&self.root)
        } else {
            let below: OsString = parents.join(OsStr::new("/"));
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            match open_confined(&self.root, &below, flags, 0, Confine::BeneathNoSymlinks) {
                Ok(dir) => Arc::new(dir),
                Err(Errno::ENOENT) => return bad("the layer has no such file"),
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    return bad("what is above it is a symlink or a file, and no directory");
                }
                Err(e) => return Err(at.fail("open the target of a hard link", e)),
            }
        };
        match sys::stat::stat_at(&dir, name) {
            Ok(s) if s.is_dir() => return bad("it is a directory"),
            Ok(s) if s.is_whiteout_device() => return bad("the layer removes it"),
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                // A device that was left out has no further names either.
                if !self.rules.privileged && self.done.devices > 0 {
                    self.done.devices += 1;
                    return Ok(());
                }
                return bad("the layer has no such file");
            }
            Err(e) => return Err(at.fail("look at the target of a hard link", e)),
        }
        self.clear(Kind::HardLink, at)?;
        sys::name::link(&dir, name, &at.dir, at.name).map_err(|e| at.fail("make hard link", e))
    }

    /// Sets owner, mode and attributes, in the order in which one doesn't clear the other.
    fn finish(&mut self, entry: &Entry, attributes: &Attributes, at: &Target<'_>) -> Result<()> {
        let kept = metadata::apply(entry, attributes, self.rules, at)?;
        self.done.squashed += u64::from(kept.squashed);
        self.done.attributes += kept.left_out;
        Ok(())
    }
}

/// What stood at a name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing that matters now.
    Nothing,
    /// A directory, which stays.
    Dir,
    /// A whiteout, which was removed.
    Whiteout,
}

fn open_dir(dir: &OwnedFd, name: &OsStr) -> sys::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    sys::openat::open_at(dir, name, flags, 0)
}

fn check_link(entry: &Entry, at: &Target<'_>) -> Result<()> {
    if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > path::PATH_MAX {
        let what = "a symlink that leads nowhere, or further than a path may be long";
        return Err(Error::new("unpack layer", what).at(at.path.shown()));
    }
    Ok(())
}
