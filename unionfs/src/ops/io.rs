//! Content: read, write, fsync, fallocate, lseek, copy_file_range.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::{Errno, copy};

use super::{Caller, Union};
use crate::copyup::{Need, ensure_upper};
use crate::error::Result;
use crate::inode::core::Fsync;
use crate::inode::{Core, Ino, Inode};

thread_local! {
    /// What a thread reads into; grows to the largest read that the kernel asks for.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Union {
    /// Returns the file of the upper that has an object's data; `None` where a lower has it.
    pub fn upper_file(&self, ino: Ino) -> Result<Option<Arc<OwnedFd>>> {
        let inode = self.core.inode(ino)?;
        let is_there = {
            let place = inode.place.read();
            place.has_upper() && !place.metacopy
        };
        let is_file = inode.kind() == libc::S_IFREG;
        (is_file && is_there).then(|| self.core.reader(&inode)).transpose()
    }

    /// Reads, and hands the bytes to `reply`, which borrows them for as long as it runs.
    pub fn read(&self, ino: Ino, offset: u64, size: u32, reply: impl FnOnce(Result<&[u8]>)) {
        BUFFER.with_borrow_mut(|buf| {
            let size = size as usize;
            if buf.len() < size {
                buf.resize(size, 0);
            }
            let read = self.core.inode(ino).and_then(|inode| {
                let part = buf.get_mut(..size).ok_or(Errno::EIO)?;
                self.read_at(&inode, part, offset)
            });
            reply(read.and_then(|n| buf.get(..n).ok_or(Errno::EIO)));
        });
    }

    /// Reads what is cached, and lets other threads go on before it waits for the rest.
    fn read_at(&self, inode: &Arc<Inode>, buf: &mut [u8], offset: u64) -> Result<usize> {
        let fd = &self.core.reader(inode)?;
        let (cached, is_missing) = match copy::read_cached(fd, buf, offset) {
            Ok(n) => (n, false),
            Err(Errno::EAGAIN) => (0, true),
            // A file system without it, which may be in memory or not.
            Err(Errno::EOPNOTSUPP) => return copy::read_at(fd, buf, offset),
            Err(e) => return Err(e),
        };
        if offset == 0 {
            self.ahead.note(&self.core, inode, is_missing);
        }
        if cached == buf.len() {
            return Ok(cached);
        }
        let rest = buf.get_mut(cached..).unwrap_or_default();
        if cached == 0 {
            self.core.turns.blocking();
        }
        Ok(cached + copy::read_at(fd, rest, offset + cached as u64)?)
    }

    /// Writes and returns the bytes written. `kill_privileges`: the kernel says that suid and sgid
    /// must go.
    pub fn write(
        &self,
        caller: Caller,
        ino: Ino,
        (offset, data): (u64, &[u8]),
        kill_privileges: bool,
    ) -> Result<usize> {
        let inode = self.core.inode(ino)?;
        ensure_upper(&self.core, &inode, Need::Data)?;
        let fd = self.core.writer(&inode)?;
        if kill_privileges {
            self.clear_suid_sgid(caller, &inode)?;
        }
        copy::write_at(fd, data, offset)
    }

    /// Brings content (and, unless `data_only`, attributes) to disk.
    pub fn fsync(&self, ino: Ino, data_only: bool) -> Result<()> {
        let inode = self.core.inode(ino)?;
        if self.core.options.fsync == Fsync::Volatile || !inode.place.read().has_upper() {
            return Ok(());
        }
        if inode.is_dir() {
            let dir = self.core.upper_dir(&inode)?;
            return self.core.sync(Core::readable(&dir)?, data_only);
        }
        if inode.place.read().metacopy {
            let place = inode.place.read();
            let fd = self.core.upper_spot(&inode, &place)?.open(libc::O_RDONLY)?;
            return self.core.sync(fd, data_only);
        }
        let fd = self.core.reader(&inode)?;
        self.core.sync(fd, data_only)
    }

    /// `fallocate(2)` in any mode that the upper's file system knows.
    pub fn fallocate(
        &self,
        caller: Caller,
        ino: Ino,
        (offset, length): (u64, u64),
        mode: i32,
    ) -> Result<()> {
        let inode = self.core.inode(ino)?;
        ensure_upper(&self.core, &inode, Need::Data)?;
        let fd = self.core.writer(&inode)?;
        let signed = |n: u64| i64::try_from(n).map_err(|_| Errno::EFBIG);
        copy::fallocate(fd, mode, signed(offset)?, signed(length)?)?;
        self.may_clear_suid_sgid(caller, &inode)
    }

    /// Returns the next data or hole (`SEEK_DATA`, `SEEK_HOLE`).
    pub fn lseek(&self, ino: Ino, offset: i64, whence: i32) -> Result<i64> {
        if !matches!(whence, libc::SEEK_DATA | libc::SEEK_HOLE) {
            return Err(Errno::EINVAL);
        }
        let inode = self.core.inode(ino)?;
        copy::seek(self.core.reader(&inode)?, offset, whence)
    }

    /// Copies between files of the union inside the kernel, and returns the bytes copied.
    pub fn copy_file_range(
        &self,
        caller: Caller,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        len: u64,
    ) -> Result<usize> {
        let (from, to) = (self.core.inode(from)?, self.core.inode(to)?);
        ensure_upper(&self.core, &to, Need::Data)?;
        let dst = self.core.writer(&to)?;
        let src = self.core.reader(&from)?;
        let signed = |n: u64| i64::try_from(n).map_err(|_| Errno::EFBIG);
        // The reply has 32 bits for the count.
        let len = len.min(1 << 30) as usize;
        self.core.turns.blocking();
        let n = copy::copy_range(src, signed(from_offset)?, dst, signed(to_offset)?, len)?;
        self.may_clear_suid_sgid(caller, &to)?;
        Ok(n)
    }
}

impl Union {
    /// Answers the requests about inode flags (chattr(1)); a value that sets copies up first.
    ///
    /// # Errors
    /// `ENOTTY`: any other request.
    pub fn ioctl(&self, ino: Ino, cmd: u32, value: &[u8]) -> Result<Vec<u8>> {
        let inode = self.core.inode(ino)?;
        let open = |spot: crate::layer::Spot| spot.open(libc::O_RDONLY | libc::O_NONBLOCK);
        let reading = || open(self.core.spot(&inode, &inode.place.read())?);
        let writing = || {
            ensure_upper(&self.core, &inode, Need::Data)?;
            open(self.core.upper_spot(&inode, &inode.place.read())?)
        };
        const GETFLAGS: u32 = libc::FS_IOC_GETFLAGS as u32;
        const SETFLAGS: u32 = libc::FS_IOC_SETFLAGS as u32;
        match cmd {
            GETFLAGS => Ok(copy::file_flags(reading()?)?.to_ne_bytes().to_vec()),
            copy::FS_IOC_FSGETXATTR => Ok(copy::fsxattr(reading()?)?.to_vec()),
            SETFLAGS => {
                let flags = value.first_chunk().ok_or(Errno::EINVAL)?;
                copy::set_file_flags(writing()?, u32::from_ne_bytes(*flags))?;
                Ok(Vec::new())
            }
            copy::FS_IOC_FSSETXATTR => {
                copy::set_fsxattr(writing()?, value.first_chunk().ok_or(Errno::EINVAL)?)?;
                Ok(Vec::new())
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}
