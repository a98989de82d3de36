//! What the user typed: the command line of mount helpers and of fuse-overlayfs.

use std::ffi::{OsStr, OsString};

use clap::Parser;

/// Merges read-only lower directories and a writable upper one.
#[derive(Debug, Parser)]
#[command(
    name = "unionfs",
    version,
    disable_version_flag = true,
    after_help = OPTIONS
)]
pub struct Cli {
    /// Stay in the foreground; called as mount.TYPE, check the options and mount nothing.
    #[arg(short = 'f')]
    pub foreground: bool,

    /// Stay in the foreground and log each request.
    #[arg(short = 'd', long = "debug")]
    pub debug: bool,

    /// Options, separated by commas; a backslash makes `,` and `:` part of a path.
    #[arg(short = 'o', value_name = "OPT[,OPT…]")]
    pub options: Vec<OsString>,

    /// Write a byte to this inherited descriptor when the mount is live.
    #[arg(long, value_name = "FD")]
    pub ready_fd: Option<i32>,

    /// What mount(8) tells its helpers, beside the options.
    #[command(flatten)]
    pub helper: Helper,

    /// Print version.
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// A source, which only shows in /proc/mounts, and the mount point (the last word): a directory,
    /// or /dev/fd/N for an inherited descriptor of /dev/fuse that is mounted already.
    #[arg(required = true, num_args = 1..=2, value_name = "[SOURCE] MOUNTPOINT")]
    pub words: Vec<OsString>,
}

/// Switches of mount(8)'s helpers (`mount.TYPE SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE.SUBTYPE]`).
#[derive(Debug, clap::Args)]
pub struct Helper {
    /// The type to show; of `fuse.NAME`, what comes after the dot.
    #[arg(short = 't', value_name = "TYPE", hide = true)]
    pub kind: Option<String>,

    /// Tolerate unknown options, which is what always happens (`-s` of fuse-overlayfs, one thread, is
    /// taken likewise).
    #[arg(short = 's', hide = true)]
    sloppy: bool,

    /// Don't write /etc/mtab, which nobody does.
    #[arg(short = 'n', hide = true)]
    no_mtab: bool,

    /// Say more.
    #[arg(short = 'v', hide = true)]
    verbose: bool,
}

/// Returns the last component of the name that the program was called by.
pub fn called_as(arg0: Option<&OsStr>) -> String {
    let path = std::path::PathBuf::from(arg0.unwrap_or_default());
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether mount(8) called, to whose helpers `-f` means to do everything but mount.
pub fn is_mount_helper(called_as: &str) -> bool {
    called_as.starts_with("mount.")
}

/// What `-o` takes.
const OPTIONS: &str = "\
Options for -o:
  lowerdir=DIR[:DIR…][::DIR…]
                            read-only layers, the topmost first (required); after `::` such as
                            have only data for metadata-only copies
  lowerdir+=DIR, datadir+=DIR
                            one more layer of either kind; nothing in DIR is special
  upperdir=DIR              writable layer; without it the union is read-only
  workdir=DIR               empty directory on the upper's file system (with upperdir); while another
                            mount uses both, only a mount with `ro` may look at the upper
  fsync=ordered|strict|volatile, volatile
                            sync copied-up data before its name (ordered, the default), metadata
                            and directories as well (strict), or never sync at all (volatile)
  index=on|off              hard links of lower files stay one file (default on)
  redirect_dir=on|off       rename directories with a lower part by a redirect, or (default)
                            answer EXDEV, so that mv copies them; redirects are always followed
  metacopy=on|off           changes of mode, owner, times and attributes copy no data
                            (default off); metadata-only copies are always read
  timeout=SECONDS           how long the kernel may keep what it was told (default 3600)
  uidmapping=DISK:SHOWN:LENGTH[:…], gidmapping=…
                            translate owners (not again those of a lower on a mount that maps them)
  squash_to_root, squash_to_uid=N, squash_to_gid=N
                            show every file as owned by this one
  xattr_permissions=1|2     keep owners and modes of the upper in an attribute, as fuse-overlayfs
  unmapped_root             show owners that the user namespace can't express as root
  userxattr                 keep marks in user.overlay.*, as unprivileged mounts do
  noxattrs                  refuse extended attributes
  noacl                     decide by modes alone: ACLs are kept, but allow and forbid nothing (their
                            masks are the modes' group bits), and are not asked for
  static_nlink              show one link for each directory, as for merged ones
  listing_cache=SIZE        how much memory merged listings may take (default 64M; K, M, G); those that
                            nobody changed or used lately are dropped and read again when needed
  threads=N                 threads that serve (default 4; with io_uring for each processor)
  io=auto|noopen|passthrough|cached
                            open, read and close without messages (noopen, the default where the
                            kernel can: best for many files); let the kernel read and write files
                            of the upper itself (passthrough, root and Linux 6.9 only: best for
                            much data in few files); or through the cache with messages (cached)
  io_uring=auto|on|off      take messages at the processor that sends them, through io_uring: by
                            default where the kernel offers it (Linux 6.14, and root has written Y
                            to /sys/module/fuse/parameters/enable_uring); `io_uring` is `on`, which
                            fails where it doesn't
  fsname=NAME, subtype=NAME what /proc/mounts shows
  ro, nosuid, nodev, noexec, noatime, …, allow_other
                            as for mount(8); unknown options are warned about and ignored

Environment:
  FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT
                            set: mark deletions by `.wh.NAME` files, never by devices

Exit codes: 0 the mount is live (with -f: was unmounted), 1 it could not be made, 2 wrong usage.";
