//! File handles: `name_to_handle_at(2)`, a name for an inode that survives rename and reboot.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result, cstr};

/// Longest handle (`MAX_HANDLE_SZ`).
const MAX: usize = 128;

/// The handle of an inode: a type and bytes that only its file system understands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle {
    /// Type, as the file system gives it (0 … 254).
    pub kind: i32,
    /// Bytes of the identifier.
    pub id: Vec<u8>,
}

impl FileHandle {
    /// Returns the inode number, where the type tells where it is: `FILEID_INO32_GEN` (ext4 and most),
    /// with XFS's flag for 64 bits, or `FILEID_BTRFS_WITHOUT_PARENT` (include/linux/exportfs.h,
    /// fs/xfs/xfs_export.h).
    pub fn inode_number(&self) -> Option<u64> {
        match (self.kind, self.id.len()) {
            (1, 8) => self.id.first_chunk().map(|b| u32::from_ne_bytes(*b).into()),
            (0x81, 12) | (0x4d, 20) => self.id.first_chunk().map(|b| u64::from_ne_bytes(*b)),
            _ => None,
        }
    }
}

#[repr(C)]
struct Raw {
    bytes: u32,
    kind: i32,
    id: [u8; MAX],
}

/// Returns the handle of the entry `name` of `dir` (empty: of the descriptor itself); a symlink is
/// not followed.
///
/// # Errors
/// `EOPNOTSUPP`: the file system has no handles, ever.
pub fn of_at(dir: impl AsFd, name: &OsStr) -> Result<FileHandle> {
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let name = cstr(name)?;
    let mut raw = Raw { bytes: MAX as u32, kind: 0, id: [0; MAX] };
    let mut mount_id = 0;
    // SAFETY: the name is NUL-terminated; `raw` has the layout of `struct file_handle` with room for
    // the bytes that its first field promises; all pointers outlive the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            &mut raw,
            &mut mount_id,
            flags,
        )
    };
    Errno::result(r)?;
    let id = raw.id.get(..raw.bytes as usize).ok_or(Errno::EIO)?;
    Ok(FileHandle { kind: raw.kind, id: id.to_vec() })
}

#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// `FS_IOC_GETFSUUID` (linux/fs.h, Linux 6.9): `_IOR(0x15, 0, struct fsuuid2)`.
const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;

/// Returns the UUID of the file system that holds an open (not `O_PATH`) object; all zeroes where it
/// has none or the kernel doesn't tell.
pub fn fs_uuid(fd: impl AsFd) -> [u8; 16] {
    let mut out = FsUuid { len: 0, uuid: [0; 16] };
    // SAFETY: the kernel writes a `struct fsuuid2`, whose layout `out` has, and keeps no pointer.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), FS_IOC_GETFSUUID, &mut out) };
    if r == 0 && out.len == 16 { out.uuid } else { [0; 16] }
}

/// Opens the object that a handle names (`O_PATH`), on the file system that holds `on`, which must
/// not be `O_PATH` itself.
///
/// # Errors
/// `EPERM`: needs `CAP_DAC_READ_SEARCH` in the initial user namespace. `ESTALE`: no such object.
pub fn open(on: impl AsFd, handle: &FileHandle) -> Result<OwnedFd> {
    let mut raw = Raw { bytes: 0, kind: handle.kind, id: [0; MAX] };
    let id = raw.id.get_mut(..handle.id.len()).ok_or(Errno::EINVAL)?;
    id.copy_from_slice(&handle.id);
    raw.bytes = handle.id.len() as u32;
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `raw` has the layout of `struct file_handle` with the bytes that its first field
    // promises, and outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, on.as_fd().as_raw_fd(), &mut raw, flags)
    };
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
