//! The structures of `/dev/fuse`, as `include/uapi/linux/fuse.h` of Linux 6.18 has them (version
//! 7.45). Numbers are of the machine's own byte order. Names are the header's without `fuse_`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Major version of the protocol.
pub const MAJOR: u32 = 7;
/// Minor version that this code knows.
pub const MINOR: u32 = 45;
/// The oldest minor version whose structures are those below: `init_out` is full since 7.23, Linux 3.15.
pub const OLDEST_MINOR: u32 = 23;

/// Defines structures that are read from and written to the device as they lie in memory.
macro_rules! abi {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? } = $size:literal)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

abi! {
    /// Before each message.
    InHeader {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    } = 40
    /// Before each reply, and each notification.
    OutHeader { len: u32, error: i32, unique: u64 } = 16
    /// What the kernel offers, in full.
    InitIn {
        major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11],
    } = 64
    /// The beginning of [`InitIn`], which is all that Linux before 5.17 sends.
    InitInShort { major: u32, minor: u32, max_readahead: u32, flags: u32 } = 16
    /// What is agreed.
    InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16,
        map_alignment: u16, flags2: u32, max_stack_depth: u32, request_timeout: u16,
        unused: [u16; 11],
    } = 64
    /// Attributes.
    Attr {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32,
        mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32,
        blksize: u32, flags: u32,
    } = 88
    /// An object at a name.
    EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr,
    } = 128
    /// Attributes, and how long they hold.
    AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr } = 104
    /// A time of [`Statx`].
    SxTime { sec: i64, nsec: u32, reserved: i32 } = 16
    /// Attributes as statx(2) has them.
    Statx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16,
        spare0: u16, ino: u64, size: u64, blocks: u64, attributes_mask: u64, atime: SxTime,
        btime: SxTime, ctime: SxTime, mtime: SxTime, rdev_major: u32, rdev_minor: u32,
        dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    } = 256
    /// [`Statx`], and how long it holds.
    StatxOut {
        attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: Statx,
    } = 288
    /// An open file.
    OpenOut { fh: u64, open_flags: u32, backing_id: i32 } = 16
    /// A made and opened file.
    CreateOut { entry: EntryOut, open: OpenOut } = 144
    /// How much was written.
    WriteOut { size: u32, padding: u32 } = 8
    /// How large an attribute or list of them is.
    GetxattrOut { size: u32, padding: u32 } = 8
    /// State of a file system.
    StatfsOut {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32,
        frsize: u32, padding: u32, spare: [u32; 6],
    } = 80
    /// Result of an ioctl.
    IoctlOut { result: i32, flags: u32, in_iovs: u32, out_iovs: u32 } = 16
    /// Where data or a hole begins.
    LseekOut { offset: u64 } = 8
    /// How much was copied.
    CopyFileRangeOut { bytes_copied: u64 } = 8
    /// Before the name of a directory's entry.
    Dirent { ino: u64, off: u64, namelen: u32, kind: u32 } = 24
    /// The same with attributes.
    Direntplus { entry: EntryOut, dirent: Dirent } = 152

    /// `FORGET`.
    ForgetIn { nlookup: u64 } = 8
    /// `BATCH_FORGET`; so many [`ForgetOne`] follow.
    BatchForgetIn { count: u32, dummy: u32 } = 8
    /// One of many.
    ForgetOne { nodeid: u64, nlookup: u64 } = 16
    /// `GETATTR`.
    GetattrIn { flags: u32, dummy: u32, fh: u64 } = 16
    /// `STATX`.
    StatxIn { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 } = 24
    /// `SETATTR`.
    SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64,
        ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32,
        uid: u32, gid: u32, unused5: u32,
    } = 88
    /// `MKNOD`; the name follows.
    MknodIn { mode: u32, rdev: u32, umask: u32, padding: u32 } = 16
    /// `MKDIR`; the name follows.
    MkdirIn { mode: u32, umask: u32 } = 8
    /// `RENAME`; both names follow.
    RenameIn { newdir: u64 } = 8
    /// `RENAME2`; both names follow.
    Rename2In { newdir: u64, flags: u32, padding: u32 } = 16
    /// `LINK`; the new name follows.
    LinkIn { oldnodeid: u64 } = 8
    /// `OPEN` and `OPENDIR`.
    OpenIn { flags: u32, open_flags: u32 } = 8
    /// `CREATE` and `TMPFILE`; the name follows.
    CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32 } = 16
    /// `RELEASE` and `RELEASEDIR`.
    ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 } = 24
    /// `READ`, `READDIR` and `READDIRPLUS`.
    ReadIn {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    } = 40
    /// `WRITE`; the data follows.
    WriteIn {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    } = 40
    /// `FSYNC` and `FSYNCDIR`.
    FsyncIn { fh: u64, fsync_flags: u32, padding: u32 } = 16
    /// `SETXATTR` as without `FUSE_SETXATTR_EXT`; name and value follow.
    SetxattrIn { size: u32, flags: u32 } = 8
    /// `GETXATTR`, where the name follows, and `LISTXATTR`.
    GetxattrIn { size: u32, padding: u32 } = 8
    /// `IOCTL`; the argument follows.
    IoctlIn { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32 } = 32
    /// `FALLOCATE`.
    FallocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 } = 32
    /// `LSEEK`.
    LseekIn { fh: u64, offset: u64, whence: u32, padding: u32 } = 24
    /// `COPY_FILE_RANGE` and `COPY_FILE_RANGE_64`.
    CopyFileRangeIn {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    } = 56
}

/// Defines constants that go by the header's names.
macro_rules! constants {
    ($type:ty; $($name:ident = $value:expr),* $(,)?) => {
        $(#[allow(missing_docs)] pub const $name: $type = $value;)*
    };
}

/// What messages ask for (`enum fuse_opcode`).
pub mod opcode {
    /// Defines operations, and their names.
    macro_rules! opcodes {
        ($($name:ident = $value:literal),* $(,)?) => {
            $(#[allow(missing_docs)] pub const $name: u32 = $value;)*

            /// Returns the name of an operation, empty for an unknown one.
            pub fn name(opcode: u32) -> &'static str {
                match opcode {
                    $($value => stringify!($name),)*
                    _ => "",
                }
            }
        };
    }

    opcodes! {
        LOOKUP = 1, FORGET = 2, GETATTR = 3, SETATTR = 4, READLINK = 5, SYMLINK = 6, MKNOD = 8,
        MKDIR = 9, UNLINK = 10, RMDIR = 11, RENAME = 12, LINK = 13, OPEN = 14, READ = 15,
        WRITE = 16, STATFS = 17, RELEASE = 18, FSYNC = 20, SETXATTR = 21, GETXATTR = 22,
        LISTXATTR = 23, REMOVEXATTR = 24, FLUSH = 25, INIT = 26, OPENDIR = 27, READDIR = 28,
        RELEASEDIR = 29, FSYNCDIR = 30, ACCESS = 34, CREATE = 35, INTERRUPT = 36, DESTROY = 38,
        IOCTL = 39, POLL = 40, BATCH_FORGET = 42, FALLOCATE = 43, READDIRPLUS = 44,
        RENAME2 = 45, LSEEK = 46, COPY_FILE_RANGE = 47, TMPFILE = 51, STATX = 52,
        COPY_FILE_RANGE_64 = 53,
    }
}

/// One more than the largest known opcode.
pub const OPCODES: usize = 54;

/// What the kernel offers and a file system accepts: the flags of `INIT`, of both words.
pub mod init {
    constants! { u64;
        ASYNC_READ = 1 << 0, POSIX_LOCKS = 1 << 1, ATOMIC_O_TRUNC = 1 << 3, BIG_WRITES = 1 << 5,
        DONT_MASK = 1 << 6, FLOCK_LOCKS = 1 << 10, HAS_IOCTL_DIR = 1 << 11,
        AUTO_INVAL_DATA = 1 << 12, DO_READDIRPLUS = 1 << 13, READDIRPLUS_AUTO = 1 << 14,
        ASYNC_DIO = 1 << 15, WRITEBACK_CACHE = 1 << 16, NO_OPEN_SUPPORT = 1 << 17,
        PARALLEL_DIROPS = 1 << 18, HANDLE_KILLPRIV = 1 << 19, POSIX_ACL = 1 << 20,
        MAX_PAGES = 1 << 22, CACHE_SYMLINKS = 1 << 23, NO_OPENDIR_SUPPORT = 1 << 24,
        EXPLICIT_INVAL_DATA = 1 << 25, HANDLE_KILLPRIV_V2 = 1 << 28,
        INIT_EXT = 1 << 30, CREATE_SUPP_GROUP = 1 << 34, DIRECT_IO_ALLOW_MMAP = 1 << 36,
        PASSTHROUGH = 1 << 37, NO_EXPORT_SUPPORT = 1 << 38, HAS_RESEND = 1 << 39,
        ALLOW_IDMAP = 1 << 40, OVER_IO_URING = 1 << 41,
    }
}

/// Which fields of [`SetattrIn`] are meant.
pub mod fattr {
    constants! { u32;
        MODE = 1 << 0, UID = 1 << 1, GID = 1 << 2, SIZE = 1 << 3, ATIME = 1 << 4,
        MTIME = 1 << 5, FH = 1 << 6, ATIME_NOW = 1 << 7, MTIME_NOW = 1 << 8,
        KILL_SUIDGID = 1 << 11,
    }
}

/// How an open file shall be treated.
pub mod fopen {
    constants! { u32;
        DIRECT_IO = 1 << 0, KEEP_CACHE = 1 << 1, NONSEEKABLE = 1 << 2, CACHE_DIR = 1 << 3,
        NOFLUSH = 1 << 5, PASSTHROUGH = 1 << 7,
    }
}

/// Flag of [`WriteIn`]: set-user-id and set-group-id must go.
pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Flag of [`FsyncIn`]: only data.
pub const FSYNC_FDATASYNC: u32 = 1 << 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_the_headers_names() {
        assert_eq!(opcode::name(1), "LOOKUP");
        assert_eq!(opcode::name(53), "COPY_FILE_RANGE_64");
        assert_eq!((opcode::name(7), opcode::name(54)), ("", ""));
    }
}
