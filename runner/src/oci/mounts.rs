//! Options of mounts, as mount(8) and the specification call them.

use std::path::Path;

use nix::libc;
use oci_spec::runtime;
use sys::mount::attr;

use crate::error::{Error, Result};
use crate::spec::{Attributes, Mount, Mounted};

/// Options that add or take an attribute: name, bits to add, bits to take; each also with an `r` in front,
/// for all mounts below.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("atime", 0, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("nostrictatime", 0, attr::ATIME),
    ("relatime", 0, attr::ATIME),
    ("norelatime", attr::STRICTATIME, attr::ATIME),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

/// Options that say how mounts travel; each also with an `r` in front, for all below.
const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Options that are the file system's own without being its data.
const SUPERBLOCK: [&str; 8] =
    ["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "silent"];

/// All names of options that are known, for `features`.
pub(super) fn names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(n, ..)| *n);
    let both = attributes.chain(PROPAGATION.iter().map(|(n, _)| *n));
    let mut all: Vec<String> = both.flat_map(|n| [n.to_owned(), format!("r{n}")]).collect();
    all.extend(SUPERBLOCK.map(str::to_owned));
    all.extend(["bind", "rbind", "tmpcopyup", "defaults"].map(str::to_owned));
    all.sort();
    all.dedup();
    all
}

/// Returns the propagation of a name, and whether it is of all mounts below.
pub(super) fn propagation(name: &str) -> Option<(u64, bool)> {
    let find = |name: &str| PROPAGATION.iter().find(|(n, _)| *n == name).map(|(_, bits)| *bits);
    find(name).map(|bits| (bits, false)).or_else(|| Some((find(name.strip_prefix('r')?)?, true)))
}

/// Options as they are taken apart.
#[derive(Default)]
struct Taken {
    own: Attributes,
    tree: Attributes,
    propagation: Vec<(u64, bool)>,
    data: Vec<(String, Option<String>)>,
    /// Whether it is a bind mount, and whether with all below it.
    bind: Option<bool>,
    copy_up: bool,
}

/// Translates a mount of a bundle in `dir`.
pub(super) fn translate(mount: &runtime::Mount, dir: &Path) -> Result<Mount> {
    let target = mount.destination();
    // The specification wants absolute paths, and tools that write others mean those.
    let target = Path::new("/").join(target);
    let failed = |why: String| Error::new("mounts", why).at(&target);
    if target.components().count() == 1 {
        return Err(failed("the root can't be covered".to_owned()));
    }
    let kind = mount.typ().clone().unwrap_or_default();
    let mut taken = Taken::default();
    for option in mount.options().iter().flatten() {
        take(option, &mut taken).map_err(failed)?;
    }
    let source = mount.source().as_ref().map(|s| s.as_path());
    let what = match (taken.bind, kind.as_str()) {
        (Some(tree), _) => bind(source, dir, tree, &taken).map_err(failed)?,
        (None, "bind") => bind(source, dir, false, &taken).map_err(failed)?,
        (None, "") => return Err(failed("it has no type".to_owned())),
        (None, "cgroup") => Mounted::Cgroups,
        (None, kind) => {
            if taken.copy_up && kind != "tmpfs" {
                return Err(failed("tmpcopyup: only a tmpfs has it".to_owned()));
            }
            let source = source.map_or(kind.into(), |s| s.to_string_lossy().into_owned());
            let (kind, options, copy_up) = (kind.to_owned(), taken.data, taken.copy_up);
            Mounted::FileSystem { kind, source, options, copy_up }
        }
    };
    let Taken { own, tree, propagation, .. } = taken;
    Ok(Mount { target: target.into_os_string(), what, own, tree, propagation })
}

fn bind(
    source: Option<&Path>,
    dir: &Path,
    tree: bool,
    taken: &Taken,
) -> std::result::Result<Mounted, String> {
    let source = source.ok_or("a bind mount needs a source")?;
    if let Some((name, _)) = taken.data.first() {
        return Err(format!("option `{name}` is not one of bind mounts"));
    }
    Ok(Mounted::Bind { source: dir.join(source).into_os_string(), tree, opened: None })
}

fn take(option: &str, taken: &mut Taken) -> std::result::Result<(), String> {
    let attribute = |name: &str| ATTRIBUTES.iter().find(|(n, ..)| *n == name);
    if let Some((_, set, clear)) = attribute(option) {
        add(&mut taken.own, *set, *clear);
        return Ok(());
    }
    if let Some(which) = propagation(option) {
        taken.propagation.push(which);
        return Ok(());
    }
    if let Some((_, set, clear)) = option.strip_prefix('r').and_then(attribute) {
        add(&mut taken.tree, *set, *clear);
        return Ok(());
    }
    match option {
        "bind" => taken.bind = Some(taken.bind.unwrap_or(false)),
        "rbind" => taken.bind = Some(true),
        "tmpcopyup" => taken.copy_up = true,
        "defaults" | "" | "async" | "nomand" | "nolazytime" => {}
        "remount" | "idmap" | "ridmap" | "copy-symlink" | "src-nofollow" | "dest-nofollow" => {
            return Err(format!("option `{option}` is not supported"));
        }
        _ => {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (option, None),
            };
            taken.data.push((key.to_owned(), value));
        }
    }
    Ok(())
}

/// Adds to attributes; of two that contradict each other, the last holds.
fn add(to: &mut Attributes, set: u64, clear: u64) {
    to.set = to.set & !clear | set;
    to.clear = to.clear & !set | clear;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(json: serde_json::Value) -> Result<Mount> {
        translate(&serde_json::from_value(json).unwrap(), Path::new("/bundle"))
    }

    #[test]
    fn options_become_attributes_and_data() {
        let mount = translated(serde_json::json!({ "destination": "/t", "type": "tmpfs",
            "source": "shm", "options": ["nosuid", "noexec", "exec", "mode=1777", "rslave"] }));
        let mount = mount.unwrap();
        assert_eq!((mount.own.set, mount.own.clear), (attr::NOSUID, attr::NOEXEC));
        assert_eq!(mount.propagation, [(libc::MS_SLAVE, true)]);
        let Mounted::FileSystem { options, .. } = mount.what else { panic!() };
        assert_eq!(options, [("mode".to_owned(), Some("1777".to_owned()))]);
    }

    #[test]
    fn sources_of_bind_mounts_are_below_the_bundle() {
        let mount = translated(serde_json::json!({ "destination": "/t", "source": "data",
            "options": ["rbind", "rro"] }));
        let mount = mount.unwrap();
        assert_eq!(mount.tree.set, attr::RDONLY);
        let Mounted::Bind { source, tree, .. } = mount.what else { panic!() };
        assert!(source == "/bundle/data" && tree);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            serde_json::json!({ "destination": "/", "type": "tmpfs" }),
            serde_json::json!({ "destination": "/t" }),
            serde_json::json!({ "destination": "/t", "type": "bind" }),
            serde_json::json!({ "destination": "/t", "type": "tmpfs", "options": ["idmap"] }),
            serde_json::json!({ "destination": "/t", "source": "x", "options": ["bind", "size=1"] }),
        ] {
            assert!(translated(bad.clone()).is_err(), "{bad}");
        }
    }
}
