//! From a checked configuration to a served mount, in the order in which a daemon lives.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::Arc;

use daemon::ready::{Detached, detach};
use daemon::{Mount, MountPoint, MountRequest, Ready, ServeOptions, Turns};
use dashmap::DashMap;
use sys::xattr;
use wire::Counts;

use crate::cli::Cli;
use crate::config::Config;
use crate::error::StartError;
use crate::inode::core::{Fsync, Options, Origins};
use crate::inode::fds::FdCache;
use crate::inode::kept::Kept;
use crate::inode::number::Numbers;
use crate::inode::table::InodeTable;
use crate::inode::{Core, InUpper, Inode, Lowers, Place, ROOT};
use crate::layer::marks::{Escape, Marks, Opaque, Prefix};
use crate::layer::{LayerStack, LowerLayer, LowerRef, Mapped, UpperLayer, is_in_use, open_upper};
use crate::ops::Union;
use crate::ops::statistics::Statistics;
use crate::transport::{Cache, Served};

/// Descriptors that the cache may keep at most, whatever the limit allows.
const MOST_DESCRIPTORS: u64 = 16_384;

/// Mounts and serves.
pub(crate) fn start(cli: &Cli, called_as: &str) -> Result<ExitCode, StartError> {
    let config = Config::new(cli, called_as)?;
    let ready = match (cli.ready_fd, cli.foreground || cli.debug) {
        (Some(fd), _) => Ready::descriptor(fd).map_err(|_| {
            StartError::Option(format!("--ready-fd {fd}: not an open inherited descriptor"))
        })?,
        (None, true) => Ready::Foreground,
        (None, false) => match detach().map_err(|e| StartError::Io("detach", e.into()))? {
            Detached::Parent(code) => return Ok(code),
            Detached::Daemon(ready) => ready,
        },
    };
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let core = open_core(&config)?;
    let union = Arc::new(Union::new(core));
    // One that somebody else has mounted may leave that to us.
    let checks_permissions = matches!(config.at, MountPoint::Path(_));
    let mount = Mount::new(&MountRequest {
        source: config.source,
        subtype: config.subtype,
        at: config.at,
        allow_other: config.allow_other.unwrap_or_else(may_let_others_in),
        default_permissions: true,
        flags: config.flags,
    })?;
    let cache = Cache { valid: config.timeout, negative: config.timeout };
    let counts = Arc::new(Counts::default());
    let statistics = {
        let union = Arc::clone(&union);
        let counts = Arc::clone(&counts);
        Box::new(move || {
            eprintln!("unionfs: {}", Statistics::new(&union, counts.lanes(), counts.all()));
        })
    };
    let options = ServeOptions { turns: union.turns(), ready, statistics };
    daemon::serve(
        Served::new(union, cache, config.ways, checks_permissions, Arc::clone(&counts)),
        mount,
        counts,
        options,
    )
    .map_err(|e| StartError::Io("serve", e))?;
    Ok(ExitCode::SUCCESS)
}

/// Others are let in where the mount is made without the setuid helper, which forbids it by default.
fn may_let_others_in() -> bool {
    sys::process::has_capability(sys::process::CAP_SYS_ADMIN)
}

/// Opens all layers. This comes before the mount, as a layer may hold the mount point.
fn open_core(config: &Config) -> Result<Core, StartError> {
    let limit = sys::process::raise_nofile_limit().unwrap_or(1024);
    // What is only looked at needs no lock: containerd's diff of a running container mounts its upper
    // again. It is read as a lower, and nothing is touched.
    let read_only =
        config.flags.iter().rfind(|f| *f == "ro" || *f == "rw").is_some_and(|f| f == "ro");
    let looked_at = config.upper.as_ref().filter(|(_, work)| read_only && is_in_use(work));
    let upper = match &config.upper {
        Some((upper, work)) if looked_at.is_none() => {
            let volatile = config.options.fsync == Fsync::Volatile;
            Some(UpperLayer::new(open_upper(
                upper,
                work,
                config.index,
                volatile,
                config.permissions,
                config.wishes,
            )?))
        }
        _ => None,
    };
    let (uids, gids) = (&config.options.uids, &config.options.gids);
    let maps = (!uids.ranges.is_empty() || !gids.ranges.is_empty())
        .then(|| Mapped { uids: uids.clone(), gids: gids.clone() });
    let looked_at = looked_at.map(|(upper, _)| upper);
    let merging = config.merging + usize::from(looked_at.is_some());
    let lowers = looked_at
        .into_iter()
        .chain(&config.lowers)
        .map(|p| {
            LowerLayer::open_mapped(p, maps.as_ref())
                .map_err(|e| StartError::path("lowerdir", p, e))
        })
        .collect::<Result<Vec<_>, _>>()?;
    make_core((upper, lowers), merging, config.options.clone(), limit, config.threads)
}

/// Makes the state of a union of layers that are open; `limit` is how many descriptors there may be,
/// and `threads` how many serve.
pub(crate) fn make_core(
    (upper, lowers): (Option<UpperLayer>, Vec<LowerLayer>),
    merging: usize,
    options: Options,
    limit: u64,
    threads: usize,
) -> Result<Core, StartError> {
    let devices = upper.iter().map(UpperLayer::dev).chain(lowers.iter().map(LowerLayer::dev));
    let numbers = Numbers::new(devices);
    let prefix = upper.as_ref().and_then(|u| u.dialect().prefix).unwrap_or(Prefix::Trusted);
    let permissions = upper.as_ref().and_then(UpperLayer::permissions);
    let escape = Escape { prefix, security: permissions.is_some_and(|p| p.keeps_security()) };
    let origins = lowers.iter().map(origins).collect();
    let core = Core {
        stack: LayerStack::new(upper, lowers, merging),
        table: InodeTable::default(),
        numbers,
        fds: FdCache::new((limit / 2).min(MOST_DESCRIPTORS) as usize),
        kept: Kept::new(options.listings),
        options,
        escape,
        origins,
        unmarked: DashMap::new(),
        turns: Turns::new(threads),
        own: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        opens_all: sys::process::has_capability(sys::process::CAP_DAC_OVERRIDE),
    };
    let root = root(&core).map_err(|e| StartError::Io("look at the layers' roots", e.into()))?;
    core.table.put(Arc::new(root));
    Ok(core)
}

fn origins(layer: &LowerLayer) -> Origins {
    let root = Core::readable(layer.root()).ok();
    Origins { uuid: root.as_ref().map_or([0; 16], sys::handle::fs_uuid), root }
}

/// Makes the root: all layers merge in it, down to an opaque one.
fn root(core: &Core) -> sys::Result<Inode> {
    let mut upper = InUpper::No;
    let mut open = true;
    let mut impure = false;
    let mut number = None;
    if let Some(u) = core.stack.upper_opt() {
        let stat = sys::stat::stat_fd(u.root())?;
        let marks = Marks::read(xattr::of(u.root()))?;
        (open, impure) = (!hides(&marks, u.root())?, marks.impure);
        upper = InUpper::Named(stat.ino);
        number = Some(core.numbers.of(stat.dev, stat.ino));
    }
    let mut lowers = Vec::new();
    for (layer, lower) in (0u16..).zip(core.stack.merging()) {
        if !open {
            break;
        }
        let marks = Marks::read(xattr::of(lower.root()))?;
        lowers.push(LowerRef {
            layer,
            barrier: false,
            xattr_whiteouts: marks.opaque == Opaque::Whiteouts,
            path: Arc::from(&b""[..]),
        });
        open = !hides(&marks, lower.root())?;
        if lowers.len() == 1 {
            let stat = sys::stat::stat_fd(lower.root())?;
            number = Some(core.numbers.of(stat.dev, stat.ino));
        }
    }
    let place = Place::new(&upper, &Lowers::Refs(lowers.into()));
    let mut root = Inode::new(ROOT, libc::S_IFDIR, place);
    if let Some(dir) = &mut root.dir {
        dir.number = number.unwrap_or(ROOT.0);
        dir.impure.store(impure, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(root)
}

fn hides(marks: &Marks, root: &std::os::fd::OwnedFd) -> sys::Result<bool> {
    if marks.opaque == Opaque::Yes {
        return Ok(true);
    }
    match sys::stat::stat_at_unsynced(root, OsStr::new(crate::layer::marks::DOT_WH_OPAQUE)) {
        Ok(_) => Ok(true),
        Err(sys::Errno::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}
