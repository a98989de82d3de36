//! A layer in another dialect: how it says that something is gone, and where its marks are. Changed in
//! place, so that at each instant every whiteout is there in one form at least.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use sys::name::SetTime;
use sys::{Errno, xattr};

use super::error::{OfflineError, Result};
use super::lock;
use super::raw::{self, Raw, Whiteout, join};
use crate::layer::LowerLayer;
use crate::layer::marks::{self, DOT_WH_OPAQUE, Marks, Opaque, Prefix};

/// Start of the names of what is not complete.
const PART: &str = ".unionctl-part";

/// How a layer says that something is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Character devices 0:0, as overlayfs writes them.
    Device,
    /// Empty files with an attribute, as overlayfs reads them from layers of others.
    Attribute,
    /// `.wh.NAME`, as AUFS, images and fuse-overlayfs have it.
    DotWh,
}

/// What is wanted; `None`: as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// How deletions are said.
    pub form: Option<Form>,
    /// Where marks are.
    pub prefix: Option<Prefix>,
}

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Whiteouts.
    pub whiteouts: u64,
    /// Marks, opaque directories among them.
    pub marks: u64,
    /// Marks that objects of their type can't have in the other namespace, and which are gone.
    pub dropped: u64,
}

/// Changes a layer. What was interrupted is gone on with by the same call.
///
/// # Errors
/// It is mounted, or can't be written to.
pub fn convert(layer: &Path, work: Option<&Path>, wanted: Wanted) -> Result<Converted> {
    let _unmounted = lock::ensure(layer, work)?;
    let opened =
        LowerLayer::open(layer).map_err(|e| OfflineError::At("open layer", layer.into(), e))?;
    super::deep::run(|| {
        let mut convert = Convert { layer, wanted, done: Converted::default() };
        convert.directory(opened.root(), &[])?;
        Ok(convert.done)
    })
}

struct Convert<'a> {
    layer: &'a Path,
    wanted: Wanted,
    done: Converted,
}

impl Convert<'_> {
    /// Returns what makes an error of a step on a path of the layer.
    fn failed(
        &self,
        step: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> OfflineError + use<> {
        let path = self.layer.join(OsStr::from_bytes(path));
        move |e| OfflineError::At(step, path, e)
    }

    fn directory(&mut self, dir: &Arc<OwnedFd>, path: &[u8]) -> Result<()> {
        super::deep::check(path)?;
        let layer = self.layer;
        let fail = |step| move |e| OfflineError::At(step, layer.join(OsStr::from_bytes(path)), e);
        let before = sys::stat::stat_fd(dir).map_err(fail("look at"))?;
        let own = Marks::read(xattr::of(dir)).map_err(fail("read the marks of"))?;
        let raw = raw::read(dir, &own, None).map_err(fail("read"))?;
        for (name, raw) in &raw.entries {
            let below = join(path, name);
            if name.as_bytes().starts_with(PART.as_bytes()) {
                sys::name::unlink(dir, name).map_err(self.failed("remove", &below))?;
                continue;
            }
            if let Some((stat, _)) = &raw.object {
                if stat.is_dir() {
                    let inner =
                        Arc::new(raw::enter(dir, name).map_err(self.failed("open", &below))?);
                    self.directory(&inner, &below)?;
                } else {
                    self.marks(xattr::Target::At(dir.as_fd(), name))
                        .map_err(self.failed("convert", &below))?;
                }
            }
        }
        if let Some(form) = self.wanted.form {
            self.whiteouts(dir, &own, &raw, form).map_err(fail("convert"))?;
        }
        self.marks(xattr::of(dir)).map_err(fail("convert"))?;
        let (atime, mtime) = (SetTime::At(before.atime), SetTime::At(before.mtime));
        sys::name::utimens_at(dir, OsStr::new(""), atime, mtime).map_err(fail("set the time of"))
    }

    /// Changes the whiteouts of one directory, and how it says that it is opaque.
    fn whiteouts(
        &mut self,
        dir: &Arc<OwnedFd>,
        own: &Marks,
        raw: &raw::RawDir,
        form: Form,
    ) -> sys::Result<()> {
        let prefix = self.prefix(xattr::of(dir))?;
        let is_opaque = own.opaque == Opaque::Yes || raw.opaque_file;
        let opaque = prefix.name("opaque");
        if form == Form::Attribute
            && !is_opaque
            && own.opaque != Opaque::Whiteouts
            && raw.entries.values().any(|r| r.whiteout.is_some())
        {
            xattr::set(xattr::of(dir), &opaque, b"x", 0)?;
        }
        for (name, raw) in &raw.entries {
            if let Some(whiteout) = raw.whiteout {
                self.whiteout(dir, (name, raw), whiteout, form, prefix)?;
            }
        }
        if is_opaque && form == Form::DotWh && !raw.opaque_file {
            create(dir, OsStr::new(DOT_WH_OPAQUE)).map(drop)?;
            remove_both(xattr::of(dir), "opaque")?;
            self.done.marks += 1;
        }
        if raw.opaque_file && form != Form::DotWh {
            xattr::set(xattr::of(dir), &opaque, b"y", 0)?;
            sys::name::unlink(dir, OsStr::new(DOT_WH_OPAQUE))?;
            self.done.marks += 1;
        }
        if own.opaque == Opaque::Whiteouts && form != Form::Attribute {
            remove_both(xattr::of(dir), "opaque")?;
        }
        Ok(())
    }

    fn whiteout(
        &mut self,
        dir: &Arc<OwnedFd>,
        (name, raw): (&OsString, &Raw),
        is: Whiteout,
        form: Form,
        prefix: Prefix,
    ) -> sys::Result<()> {
        let same = matches!(
            (is, form),
            (Whiteout::Device, Form::Device)
                | (Whiteout::Attribute, Form::Attribute)
                | (Whiteout::DotWh, Form::DotWh)
        );
        if same {
            return Ok(());
        }
        self.done.whiteouts += 1;
        if form == Form::DotWh {
            create(dir, &marks::dot_wh(name)?).map(drop)?;
            return sys::name::unlink(dir, name);
        }
        match &raw.object {
            // What was removed and made anew hides what is below by itself, or says so.
            Some((stat, _)) if stat.is_dir() => {
                let inner = raw::enter(dir, name)?;
                xattr::set(xattr::of(&inner), &prefix.name("opaque"), b"y", 0)?;
            }
            Some(_) => {}
            None => {
                let part = OsStr::new(PART);
                match sys::name::unlink(dir, part) {
                    Err(Errno::ENOENT) => {}
                    r => r?,
                }
                if form == Form::Device {
                    sys::name::mknod(dir, part, libc::S_IFCHR, 0)?;
                } else {
                    let file = create(dir, part)?;
                    xattr::set(xattr::of(&file), &prefix.name("whiteout"), b"y", 0)?;
                }
                sys::name::rename(dir, part, dir, name, 0)?;
            }
        }
        if is == Whiteout::DotWh {
            sys::name::unlink(dir, &marks::dot_wh(name)?)?;
        }
        Ok(())
    }

    /// Returns where new marks go.
    fn prefix(&self, at: xattr::Target<'_>) -> sys::Result<Prefix> {
        if let Some(prefix) = self.wanted.prefix {
            return Ok(prefix);
        }
        let mut user = false;
        xattr::for_each_name(at, |n| user |= n.as_bytes().starts_with(b"user.overlay."))?;
        let is_privileged = sys::process::has_capability(sys::process::CAP_SYS_ADMIN);
        Ok(if user || !is_privileged { Prefix::User } else { Prefix::Trusted })
    }

    /// Moves the marks of an object to the other namespace.
    fn marks(&mut self, at: xattr::Target<'_>) -> sys::Result<()> {
        let Some(to) = self.wanted.prefix else { return Ok(()) };
        let from = match to {
            Prefix::Trusted => Prefix::User,
            Prefix::User => Prefix::Trusted,
        };
        for name in xattr::list(at)? {
            let Some(mark) = name.as_bytes().strip_prefix(from.as_str().as_bytes()) else {
                continue;
            };
            // Attributes of users that only look like marks.
            if mark.starts_with(b"overlay.") {
                continue;
            }
            let value = xattr::value(at, &name)?;
            let mut new = OsString::from(to.as_str());
            new.push(OsStr::from_bytes(mark));
            match xattr::set(at, &new, &value, 0) {
                Ok(()) => self.done.marks += 1,
                // User attributes can't be on symlinks and nodes.
                Err(Errno::EPERM) if to == Prefix::User => self.done.dropped += 1,
                Err(e) => return Err(e),
            }
            xattr::remove(at, &name)?;
        }
        Ok(())
    }
}

fn create(dir: &OwnedFd, name: &OsStr) -> sys::Result<OwnedFd> {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_NOFOLLOW;
    sys::openat::open_at(dir, name, flags, 0o600)
}

fn remove_both(at: xattr::Target<'_>, mark: &str) -> sys::Result<()> {
    for prefix in [Prefix::Trusted, Prefix::User] {
        match xattr::remove(at, &prefix.name(mark)) {
            Ok(()) | Err(Errno::ENODATA | Errno::EPERM | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
