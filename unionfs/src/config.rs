//! What was meant: options parsed and checked, before anything is touched.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use daemon::MountPoint;

use crate::cli::Cli;
use crate::error::StartError;
use crate::inode::Options;
use crate::inode::core::Fsync;
use crate::layer::Permissions;
use crate::layer::idmap::IdMap;
use crate::transport::{Io, Uring, Ways};

/// Most layers that a stack may have (overlayfs's `OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;

/// Options that `mount(8)`, /etc/fstab and container engines pass, and that mean nothing to a daemon.
#[rustfmt::skip]
const IGNORED: &[&str] = &[
    // For whoever reads /etc/fstab.
    "auto", "noauto", "user", "nouser", "users", "owner", "group", "defaults", "nofail", "_netdev",
    "comment",
    // Labels, which the mounts of engines take from the layers.
    "context", "fscontext", "defcontext", "rootcontext",
    // Of FUSE: always so, or decided by us.
    "default_permissions", "kernel_cache", "auto_cache", "big_writes", "large_read", "nonempty",
    "clone_fd", "io_uring_q_depth", "max_idle_threads", "max_read", "max_write", "max_background", "async_read",
    "splice_read", "splice_write", "splice_move",
    "no_splice_read", "no_splice_write", "no_splice_move",
    // Of fuse-overlayfs: advice for its caches and threads.
    "fast_ino", "writeback", "threaded",
    // Of overlayfs: inode numbers are unique here without them.
    "xino", "uuid", "override_creds", "nooverride_creds",
];

/// Bytes of merged listings that are kept, unless another number is given: two million names.
const LISTINGS: usize = 64 << 20;

/// Options that promise what isn't kept here: the name, the values that ask for nothing, and what to do.
const REFUSED: [(&str, &[&str], &str); 4] = [
    ("plugins", &[""], "layers must be directories"),
    ("ino32_t", &[], "inode numbers have 64 bits"),
    ("nfs_export", &["off"], "file handles don't outlive the daemon"),
    ("verity", &["off"], "digests aren't checked"),
];

/// A mount as it was asked for.
#[derive(Debug)]
pub struct Config {
    /// Lower layers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// How many of them merge; the rest has only data for metacopies.
    pub merging: usize,
    /// Upper and work directory.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Behaviour.
    pub options: Options,
    /// In which attribute the upper shall keep owners and modes.
    pub permissions: Option<Permissions>,
    /// Marks that the upper shall be given though it may accept better ones.
    pub wishes: crate::layer::Wishes,
    /// Hard link index.
    pub index: bool,
    /// How long the kernel may keep what it was told.
    pub timeout: Duration,
    /// Threads that serve.
    pub threads: usize,
    /// How messages come, and which.
    pub ways: Ways,
    /// What shows in /proc/mounts.
    pub source: OsString,
    /// The same: the type is `fuse.SUBTYPE`.
    pub subtype: String,
    /// Generic mount flags.
    pub flags: Vec<String>,
    /// Let other users in.
    pub allow_other: Option<bool>,
    /// Where.
    pub at: MountPoint,
}

/// Options on their way into a [`Config`].
#[derive(Debug)]
struct Parsed {
    config: Config,
    upperdir: Option<PathBuf>,
    workdir: Option<PathBuf>,
    unknown: Vec<String>,
}

impl Config {
    /// Reads the command line; `called_as` is the name that the program was called by.
    ///
    /// # Errors
    /// [`StartError::Option`] with the option, what is wrong and what to do.
    pub fn new(cli: &Cli, called_as: &str) -> Result<Config, StartError> {
        let mut words = cli.words.iter();
        let last = words.next_back().ok_or_else(|| wrong("give a mount point"))?;
        let subtype = subtype(called_as, cli.helper.kind.as_deref());
        let mut parsed = Parsed {
            config: Config {
                lowers: Vec::new(),
                merging: 0,
                upper: None,
                options: Options { listings: Some(LISTINGS), ..Options::default() },
                permissions: None,
                wishes: crate::layer::Wishes {
                    dot_whiteouts: std::env::var_os("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT")
                        .is_some(),
                    user_marks: false,
                },
                index: true,
                timeout: Duration::from_secs(3600),
                threads: 4,
                ways: Ways::default(),
                source: words.next().map_or_else(|| subtype.into(), Clone::clone),
                subtype: subtype.into(),
                flags: Vec::new(),
                allow_other: None,
                at: MountPoint::parse(last),
            },
            upperdir: None,
            workdir: None,
            unknown: Vec::new(),
        };
        for list in &cli.options {
            for option in options(list.as_bytes()) {
                parsed.take(&option)?;
            }
        }
        parsed.finish()
    }
}

/// Returns what follows `fuse.` in the type: the name that a helper was told or called by, as far as
/// callers look for it.
fn subtype<'a>(called_as: &'a str, told: Option<&'a str>) -> &'a str {
    let kind = told.unwrap_or(called_as);
    let kind = kind.strip_prefix("mount.").unwrap_or(kind);
    let name = ["fuse.", "fuse3."].into_iter().find_map(|p| kind.strip_prefix(p)).unwrap_or(kind);
    match (name, told) {
        ("" | "fuse" | "fuse3" | "overlay", _) => "unionfs",
        ("fuse-overlayfs", _) | (_, Some(_)) => name,
        _ => "unionfs",
    }
}

fn wrong(what: impl Into<String>) -> StartError {
    StartError::Option(what.into())
}

impl Parsed {
    fn take(&mut self, option: &[u8]) -> Result<(), StartError> {
        let (name, value) = match option.iter().position(|&b| b == b'=') {
            Some(i) => (option.get(..i).unwrap_or_default(), option.get(i + 1..)),
            None => (option, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        match (name.as_str(), value) {
            ("", None) => Ok(()),
            ("lowerdir", Some(v)) => self.lowers(v),
            ("upperdir", Some(v)) => put_path(&mut self.upperdir, v),
            ("workdir", Some(v)) => put_path(&mut self.workdir, v),
            ("lowerdir+", Some(v)) => self.another(v, true),
            ("datadir+", Some(v)) => self.another(v, false),
            (_, Some(v)) => match self.valued(&name, &String::from_utf8_lossy(&unescape(v)))? {
                true => Ok(()),
                false => self.other(&name, &String::from_utf8_lossy(v)),
            },
            (_, None) => self.bare(&name),
        }
    }

    fn lowers(&mut self, value: &[u8]) -> Result<(), StartError> {
        // As in the kernel: `::` stands before each data-only layer, which come last.
        let mut data_only = false;
        for path in split(value, b':') {
            match (path.is_empty(), data_only) {
                (true, false) if !self.config.lowers.is_empty() => data_only = true,
                (true, true) if self.config.lowers.len() > self.config.merging => {}
                (true, _) => {
                    return Err(wrong("lowerdir: an empty layer: give a directory between colons"));
                }
                (false, _) => {
                    self.config.lowers.push(path_of(&path));
                    self.config.merging += usize::from(!data_only);
                }
            }
        }
        if data_only && self.config.lowers.len() == self.config.merging {
            return Err(wrong("lowerdir: an empty layer: give a data-only directory after `::`"));
        }
        Ok(())
    }

    /// Takes one more layer, as in the kernel below those before it.
    fn another(&mut self, path: &[u8], merges: bool) -> Result<(), StartError> {
        let c = &mut self.config;
        if path.is_empty() {
            return Err(wrong("lowerdir+: an empty layer: give a directory"));
        }
        if merges && c.lowers.len() > c.merging {
            return Err(wrong("lowerdir+: after a layer that has only data: give those last"));
        }
        c.lowers.push(path_of(&unescape(path)));
        c.merging += usize::from(merges);
        Ok(())
    }

    /// Takes an option with a value; false for one that isn't known.
    fn valued(&mut self, name: &str, value: &str) -> Result<bool, StartError> {
        let c = &mut self.config;
        match name {
            "redirect_dir" => {
                one_of(name, value, &["on", "off", "follow"])?;
                c.options.redirects = value == "on";
            }
            "metacopy" => {
                one_of(name, value, &["on", "off"])?;
                c.options.metacopy = value == "on";
            }
            "index" => {
                one_of(name, value, &["on", "off"])?;
                c.index = value == "on";
            }
            "fsync" => {
                one_of(name, value, &["ordered", "strict", "volatile", "0", "1"])?;
                c.options.fsync = match value {
                    "volatile" | "0" => Fsync::Volatile,
                    "strict" => Fsync::Strict,
                    _ => Fsync::Ordered,
                };
            }
            "timeout" => c.timeout = seconds(name, value)?,
            "listing_cache" => c.options.listings = Some(size(name, value)?),
            "threads" => c.threads = number::<usize>(name, value)?.clamp(1, 64),
            "io" => {
                one_of(name, value, &["auto", "noopen", "passthrough", "cached"])?;
                c.ways.io = match value {
                    "noopen" => Io::NoOpen,
                    "passthrough" => Io::Passthrough,
                    "cached" => Io::Cached,
                    _ => Io::Auto,
                };
            }
            "io_uring" => {
                one_of(name, value, &["auto", "on", "off"])?;
                c.ways.uring = match value {
                    "on" => Uring::Always,
                    "off" => Uring::Never,
                    _ => Uring::WhereOffered,
                };
            }
            "uidmapping" => c.options.uids.ranges = ranges(name, value)?,
            "gidmapping" => c.options.gids.ranges = ranges(name, value)?,
            "squash_to_uid" => c.options.uids.squash = Some(number(name, value)?),
            "squash_to_gid" => c.options.gids.squash = Some(number(name, value)?),
            "xattr_permissions" => {
                one_of(name, value, &["0", "1", "2"])?;
                c.permissions = Permissions::chosen(number(name, value)?);
            }
            "noxattrs" => {
                one_of(name, value, &["0", "1"])?;
                c.options.no_xattrs = value == "1";
            }
            "fsname" => c.source = value.into(),
            "subtype" => c.subtype = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes an option without a value.
    fn bare(&mut self, name: &str) -> Result<(), StartError> {
        let c = &mut self.config;
        match name {
            "volatile" => c.options.fsync = Fsync::Volatile,
            "squash_to_root" => {
                // As fuse-overlayfs: the narrower options beat it wherever they stand.
                c.options.uids.squash.get_or_insert(0);
                c.options.gids.squash.get_or_insert(0);
            }
            "unmapped_root" => {
                c.options.uids.unmapped_root = true;
                c.options.gids.unmapped_root = true;
            }
            "noxattrs" => c.options.no_xattrs = true,
            "io_uring" => c.ways.uring = Uring::Always,
            "noacl" => c.options.no_acls = true,
            "static_nlink" => c.options.static_nlink = true,
            "userxattr" => c.wishes.user_marks = true,
            "allow_other" => c.allow_other = Some(true),
            "allow_root" => {
                // Root's own mount is for root alone unless others are let in.
                if !nix::unistd::geteuid().is_root() {
                    return Err(wrong("allow_root: not supported: give allow_other or neither"));
                }
                c.allow_other.get_or_insert(false);
            }
            "remount" => {
                return Err(wrong(
                    "remount: a mounted union can't be changed: unmount it and mount it anew",
                ));
            }
            "lowerdir" | "upperdir" | "workdir" | "lowerdir+" | "datadir+" => {
                return Err(wrong(format!("{name}: give a directory: {name}=DIR")));
            }
            _ if daemon::mount::flag(name).is_some() => c.flags.push(name.into()),
            _ => return self.other(name, ""),
        }
        Ok(())
    }

    /// Takes an option that changes nothing: refuses what can't be kept, remembers what isn't known.
    fn other(&mut self, name: &str, value: &str) -> Result<(), StartError> {
        if let Some((_, none, why)) = REFUSED.iter().find(|(refused, ..)| *refused == name) {
            if none.contains(&value) {
                return Ok(());
            }
            return Err(wrong(format!("{name}: not supported, {why}: leave it out")));
        }
        let harmless = IGNORED.contains(&name) || name.starts_with("x-") || name.starts_with("X-");
        if !harmless && !self.unknown.iter().any(|n| n == name) {
            self.unknown.push(name.into());
        }
        Ok(())
    }

    fn finish(self) -> Result<Config, StartError> {
        let Parsed { mut config, upperdir, workdir, unknown } = self;
        if config.lowers.is_empty() {
            return Err(wrong("lowerdir: missing: give at least one layer with -o lowerdir=DIR"));
        }
        if config.lowers.len() > MAX_LAYERS {
            return Err(wrong(format!(
                "lowerdir: {} layers: at most {MAX_LAYERS} are possible",
                config.lowers.len()
            )));
        }
        config.upper = match (upperdir, workdir) {
            (Some(upper), Some(work)) => Some((upper, work)),
            (None, _) => None,
            (Some(_), None) => {
                return Err(wrong(
                    "workdir: missing: upperdir needs -o workdir=DIR, an empty directory on the same file system",
                ));
            }
        };
        if config.upper.is_none() {
            config.flags.retain(|f| f != "rw");
            config.flags.push("ro".into());
        }
        if !unknown.is_empty() {
            log::warn!("unknown options ignored: {}", unknown.join(", "));
        }
        Ok(config)
    }
}

fn put_path(slot: &mut Option<PathBuf>, value: &[u8]) -> Result<(), StartError> {
    *slot = Some(path_of(&unescape(value)));
    Ok(())
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn one_of(name: &str, value: &str, allowed: &[&str]) -> Result<(), StartError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(wrong(format!("{name}={value}: not supported: give one of {}", allowed.join(", "))))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, StartError> {
    value.parse().map_err(|_| wrong(format!("{name}={value}: not a number: give {name}=N")))
}

/// Reads a number of bytes, with K, M or G for multiples of 1024.
fn size(name: &str, value: &str) -> Result<usize, StartError> {
    let (digits, shift) = match value.char_indices().last() {
        Some((at, 'k' | 'K')) => (value.get(..at), 10),
        Some((at, 'm' | 'M')) => (value.get(..at), 20),
        Some((at, 'g' | 'G')) => (value.get(..at), 30),
        _ => (Some(value), 0),
    };
    let bytes =
        digits.and_then(|d| d.parse::<usize>().ok()).and_then(|n| n.checked_mul(1 << shift));
    bytes.ok_or_else(|| {
        wrong(format!("{name}={value}: not a size: give {name}=BYTES, with K, M or G"))
    })
}

fn seconds(name: &str, value: &str) -> Result<Duration, StartError> {
    let seconds: f64 = number(name, value)?;
    // The protocol has 64 bits for it, but nobody lives longer than this.
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9))
        .map_err(|_| wrong(format!("{name}={value}: not a time: give seconds")))
}

fn ranges(name: &str, value: &str) -> Result<Vec<crate::layer::idmap::Range>, StartError> {
    IdMap::parse_ranges(value).map_err(|e| wrong(format!("{name}={value}: {e}")))
}

/// Splits at commas. As for mount(8), those in a value in quotes (`context="a:b:c1,c2"`) separate
/// nothing, and the quotes go.
fn options(list: &[u8]) -> Vec<Vec<u8>> {
    let mut plain = Vec::with_capacity(list.len());
    let mut rest = list;
    while let Some((&b, tail)) = rest.split_first() {
        let quoted = (b == b'"' && plain.ends_with(b"=")).then(|| closing_quote(tail)).flatten();
        match quoted.and_then(|end| Some((tail.get(..end)?, tail.get(end + 1..)?))) {
            Some((inside, after)) => {
                for &c in inside {
                    plain.extend((c == b',').then_some(b'\\'));
                    plain.push(c);
                }
                rest = after;
            }
            None => {
                plain.push(b);
                rest = tail;
            }
        }
    }
    split(&plain, b',')
}

/// Returns where a quoted value ends: at the next quote, if the option ends there too.
fn closing_quote(value: &[u8]) -> Option<usize> {
    let end = value.iter().position(|&b| b == b'"')?;
    matches!(value.get(end + 1), None | Some(b',')).then_some(end)
}

/// Splits at a separator that no backslash stands before, and drops an empty last part. Splitting at
/// commas keeps the backslashes of the parts, which may still be split at colons.
fn split(list: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    while let Some(b) = bytes.next() {
        let last = parts.len() - 1;
        let Some(part) = parts.get_mut(last) else { break };
        match b {
            b'\\' => {
                part.push(b);
                part.extend(bytes.next());
            }
            _ if b == separator => parts.push(Vec::new()),
            _ => part.push(b),
        }
    }
    if separator == b':' {
        parts = parts.iter().map(|p| unescape(p)).collect();
    }
    parts
}

fn unescape(part: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.iter().copied();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => out.extend(bytes.next().or(Some(b'\\'))),
            _ => out.push(b),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from(std::iter::once(&"unionfs").chain(args)).unwrap();
        Config::new(&cli, "unionfs").map_err(|e| e.to_string())
    }

    #[test]
    fn layers_are_split_at_colons_that_are_not_escaped() {
        let c = config(&["-o", r"lowerdir=/a\:1:/b\,2:/c\\3", "/mnt"]).unwrap();
        assert_eq!(c.lowers, [r"/a:1", "/b,2", r"/c\3"].map(PathBuf::from));
        assert!(c.upper.is_none());
        assert!(c.flags.contains(&"ro".to_string()));
    }

    #[test]
    fn layers_after_two_colons_have_data_only() {
        let c = config(&["-o", "lowerdir=/a:/b::/c::/d", "/mnt"]).unwrap();
        assert_eq!((c.lowers.len(), c.merging), (4, 2));
    }

    #[test]
    fn podmans_doubled_and_trailing_commas_are_fine() {
        let c = config(&["-o", "lowerdir=/a,upperdir=/u,workdir=/w,,volatile,", "/mnt"]).unwrap();
        assert_eq!(c.upper, Some(("/u".into(), "/w".into())));
        assert_eq!(c.options.fsync, Fsync::Volatile);
    }

    #[test]
    fn the_last_word_is_the_mount_point() {
        let c = config(&["overlay", "/mnt", "-o", "lowerdir=/a"]).unwrap();
        assert_eq!(c.source, "overlay");
        assert_eq!(c.at, MountPoint::Path("/mnt".into()));
    }

    #[test]
    fn wrong_values_name_the_option_and_what_to_do() {
        let lower = "lowerdir=/a,";
        for (options, part) in [
            ("upperdir=/u".to_string(), "lowerdir: missing"),
            (format!("{lower}upperdir=/u"), "workdir: missing"),
            (format!("{lower}timeout=soon"), "timeout=soon: not a number"),
            (format!("{lower}redirect_dir=nofollow"), "redirect_dir=nofollow: not supported"),
            (format!("{lower}index=maybe"), "give one of on, off"),
            (format!("{lower}uidmapping=1:2"), "triples"),
            ("lowerdir=:/b".to_string(), "empty layer"),
            ("lowerdir=/b::".to_string(), "empty layer"),
            (format!("{lower}remount"), "remount"),
            (format!("{lower}plugins=/usr/lib/x.so"), "plugins: not supported"),
            (format!("{lower}ino32_t"), "ino32_t: not supported"),
            (format!("{lower}verity=require"), "verity: not supported"),
            (format!("{lower}noxattrs=maybe"), "give one of 0, 1"),
            ("datadir+=/b,lowerdir+=/a".to_string(), "lowerdir+: after a layer"),
        ] {
            let e = config(&["-o", &options, "/mnt"]).unwrap_err();
            assert!(e.contains(part), "{options}: {e}");
            assert!(!e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn commas_in_quotes_separate_nothing() {
        let o = r#"lowerdir=/a,context="u:r:t:c1,c2",upperdir="/u,v",workdir=/w""#;
        let c = config(&["-o", o, "/mnt"]).unwrap();
        assert_eq!(c.upper, Some(("/u,v".into(), "/w\"".into())));
    }

    #[test]
    fn layers_can_be_given_one_by_one() {
        let c = config(&["-o", "lowerdir+=/a:1,lowerdir+=/b,datadir+=/c", "/mnt"]).unwrap();
        assert_eq!(c.lowers, ["/a:1", "/b", "/c"].map(PathBuf::from));
        assert_eq!(c.merging, 2);
    }

    #[test]
    fn the_type_is_the_name_that_callers_look_for() {
        for (called_as, told, shown) in [
            ("unionfs", None, "unionfs"),
            ("unionfs-1.2", None, "unionfs"),
            ("fuse-overlayfs", None, "fuse-overlayfs"),
            ("mount.fuse-overlayfs", None, "fuse-overlayfs"),
            ("mount.fuse.fuse-overlayfs", None, "fuse-overlayfs"),
            ("mount.fuse.unionfs", Some("fuse.unionfs"), "unionfs"),
            ("mount.unionfs", None, "unionfs"),
            ("mount.fuse3", Some("fuse3.fuse-overlayfs"), "fuse-overlayfs"),
            ("mount.unionfs", Some("fuse"), "unionfs"),
        ] {
            assert_eq!(subtype(called_as, told), shown, "{called_as} {told:?}");
        }
    }

    #[test]
    fn unknown_options_are_ignored() {
        assert!(config(&["-o", "lowerdir=/a,frobnicate,colour=blue", "/mnt"]).is_ok());
    }
}
