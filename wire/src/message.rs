//! What the kernel asks: one message, taken apart without a copy.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::{self, InHeader, opcode};

/// What a message asks for. Names are single components without a slash; `node` is the header's.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Operation<'a> {
    Lookup {
        name: &'a OsStr,
    },
    /// The kernel has forgotten so many lookups; no reply.
    Forget {
        lookups: u64,
    },
    /// The same for many nodes; no reply.
    BatchForget {
        all: &'a [abi::ForgetOne],
    },
    Getattr(&'a abi::GetattrIn),
    Statx(&'a abi::StatxIn),
    Setattr(&'a abi::SetattrIn),
    Readlink,
    Symlink {
        name: &'a OsStr,
        target: &'a OsStr,
    },
    Mknod {
        name: &'a OsStr,
        asked: &'a abi::MknodIn,
    },
    Mkdir {
        name: &'a OsStr,
        asked: &'a abi::MkdirIn,
    },
    Unlink {
        name: &'a OsStr,
    },
    Rmdir {
        name: &'a OsStr,
    },
    /// `flags` are those of renameat2(2).
    Rename {
        name: &'a OsStr,
        to: u64,
        new_name: &'a OsStr,
        flags: u32,
    },
    /// The header's node is the directory of the new name.
    Link {
        object: u64,
        name: &'a OsStr,
    },
    Open(&'a abi::OpenIn),
    Opendir(&'a abi::OpenIn),
    Create {
        name: &'a OsStr,
        asked: &'a abi::CreateIn,
    },
    /// A file without a name, in the header's directory.
    Tmpfile(&'a abi::CreateIn),
    Read(&'a abi::ReadIn),
    Write {
        asked: &'a abi::WriteIn,
        data: Data<'a>,
    },
    Statfs,
    Release(&'a abi::ReleaseIn),
    Releasedir(&'a abi::ReleaseIn),
    Flush,
    Fsync(&'a abi::FsyncIn),
    Fsyncdir(&'a abi::FsyncIn),
    Readdir(&'a abi::ReadIn),
    Readdirplus(&'a abi::ReadIn),
    Setxattr {
        name: &'a OsStr,
        value: Data<'a>,
        flags: u32,
    },
    Getxattr {
        name: &'a OsStr,
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Removexattr {
        name: &'a OsStr,
    },
    Access,
    Ioctl {
        asked: &'a abi::IoctlIn,
        data: Data<'a>,
    },
    Poll,
    Fallocate(&'a abi::FallocateIn),
    Lseek(&'a abi::LseekIn),
    /// `wide`: the reply has 64 bits for what was copied.
    CopyFileRange {
        asked: &'a abi::CopyFileRangeIn,
        wide: bool,
    },
    /// The connection ends; no reply is needed.
    Destroy,
    /// What this library doesn't know, or takes no part in.
    Unknown,
}

/// Bytes of a message; in a log only their number is of interest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<'a>(pub &'a [u8]);

impl std::fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A message that isn't as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Bytes that are still to be taken apart.
pub(crate) struct Rest<'a> {
    /// Where io_uring puts the operation's own structure.
    apart: Option<&'a [u8]>,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    /// A message as `/dev/fuse` has it: in one piece.
    pub(crate) fn whole(bytes: &'a [u8]) -> Rest<'a> {
        Rest { apart: None, bytes }
    }

    /// A message as io_uring has it: names and data apart from the operation's structure.
    pub(crate) fn parts(structure: &'a [u8], bytes: &'a [u8]) -> Rest<'a> {
        Rest { apart: Some(structure), bytes }
    }

    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<&'a T, Malformed> {
        let (value, rest) =
            T::ref_from_prefix(self.apart.unwrap_or(self.bytes)).map_err(|_| Malformed)?;
        if self.apart.take().is_none() {
            self.bytes = rest;
        }
        Ok(value)
    }

    /// Takes text that ends with a NUL byte.
    fn text(&mut self) -> Result<&'a OsStr, Malformed> {
        let end = self.bytes.iter().position(|b| *b == 0).ok_or(Malformed)?;
        let (text, rest) = self.bytes.split_at_checked(end).ok_or(Malformed)?;
        self.bytes = rest.get(1..).unwrap_or_default();
        Ok(OsStr::from_bytes(text))
    }

    fn bytes(&mut self, len: u32) -> Result<Data<'a>, Malformed> {
        let (bytes, rest) = self.bytes.split_at_checked(len as usize).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(Data(bytes))
    }
}

/// Splits what was read into header and body, which must be as long as the header says.
pub(crate) fn split(bytes: &[u8]) -> Result<(&InHeader, &[u8]), Malformed> {
    let (header, _) = InHeader::ref_from_prefix(bytes).map_err(|_| Malformed)?;
    let whole = bytes.get(..header.len as usize).ok_or(Malformed)?;
    Ok((header, whole.get(size_of::<InHeader>()..).ok_or(Malformed)?))
}

/// Takes a message's body apart.
pub(crate) fn operation<'a>(
    header: &InHeader,
    mut rest: Rest<'a>,
) -> Result<Operation<'a>, Malformed> {
    Ok(match header.opcode {
        opcode::LOOKUP => Operation::Lookup { name: rest.text()? },
        opcode::FORGET => Operation::Forget { lookups: rest.take::<abi::ForgetIn>()?.nlookup },
        opcode::BATCH_FORGET => {
            let count = rest.take::<abi::BatchForgetIn>()?.count as usize;
            let (all, _) = <[abi::ForgetOne]>::ref_from_prefix_with_elems(rest.bytes, count)
                .map_err(|_| Malformed)?;
            Operation::BatchForget { all }
        }
        opcode::GETATTR => Operation::Getattr(rest.take()?),
        opcode::STATX => Operation::Statx(rest.take()?),
        opcode::SETATTR => Operation::Setattr(rest.take()?),
        opcode::READLINK => Operation::Readlink,
        opcode::READ => Operation::Read(rest.take()?),
        opcode::WRITE => {
            let asked: &abi::WriteIn = rest.take()?;
            Operation::Write { asked, data: rest.bytes(asked.size)? }
        }
        opcode::STATFS => Operation::Statfs,
        opcode::FLUSH => Operation::Flush,
        opcode::FSYNC => Operation::Fsync(rest.take()?),
        opcode::FSYNCDIR => Operation::Fsyncdir(rest.take()?),
        opcode::READDIR => Operation::Readdir(rest.take()?),
        opcode::READDIRPLUS => Operation::Readdirplus(rest.take()?),
        opcode::ACCESS => Operation::Access,
        opcode::POLL => Operation::Poll,
        opcode::FALLOCATE => Operation::Fallocate(rest.take()?),
        opcode::LSEEK => Operation::Lseek(rest.take()?),
        opcode::COPY_FILE_RANGE => Operation::CopyFileRange { asked: rest.take()?, wide: false },
        opcode::COPY_FILE_RANGE_64 => Operation::CopyFileRange { asked: rest.take()?, wide: true },
        opcode::IOCTL => {
            let asked: &abi::IoctlIn = rest.take()?;
            Operation::Ioctl { asked, data: rest.bytes(asked.in_size)? }
        }
        opcode::DESTROY => Operation::Destroy,
        opcode::OPEN => Operation::Open(rest.take()?),
        opcode::OPENDIR => Operation::Opendir(rest.take()?),
        opcode::RELEASE => Operation::Release(rest.take()?),
        opcode::RELEASEDIR => Operation::Releasedir(rest.take()?),
        opcode::SETXATTR | opcode::GETXATTR | opcode::LISTXATTR | opcode::REMOVEXATTR => {
            attribute(header.opcode, rest)?
        }
        _ => naming(header.opcode, rest)?,
    })
}

/// Takes messages apart that change which names there are.
fn naming(opcode: u32, mut rest: Rest<'_>) -> Result<Operation<'_>, Malformed> {
    Ok(match opcode {
        opcode::CREATE => {
            let asked = rest.take()?;
            Operation::Create { name: rest.text()?, asked }
        }
        opcode::TMPFILE => Operation::Tmpfile(rest.take()?),
        opcode::MKNOD => {
            let asked = rest.take()?;
            Operation::Mknod { name: rest.text()?, asked }
        }
        opcode::MKDIR => {
            let asked = rest.take()?;
            Operation::Mkdir { name: rest.text()?, asked }
        }
        opcode::SYMLINK => {
            let name = rest.text()?;
            Operation::Symlink { name, target: rest.text()? }
        }
        opcode::LINK => {
            let object = rest.take::<abi::LinkIn>()?.oldnodeid;
            Operation::Link { object, name: rest.text()? }
        }
        opcode::UNLINK => Operation::Unlink { name: rest.text()? },
        opcode::RMDIR => Operation::Rmdir { name: rest.text()? },
        opcode::RENAME => {
            let to = rest.take::<abi::RenameIn>()?.newdir;
            let name = rest.text()?;
            Operation::Rename { name, to, new_name: rest.text()?, flags: 0 }
        }
        opcode::RENAME2 => {
            let asked: &abi::Rename2In = rest.take()?;
            let (name, new_name) = (rest.text()?, rest.text()?);
            Operation::Rename { name, to: asked.newdir, new_name, flags: asked.flags }
        }
        _ => Operation::Unknown,
    })
}

/// Takes messages about extended attributes apart.
fn attribute(opcode: u32, mut rest: Rest<'_>) -> Result<Operation<'_>, Malformed> {
    Ok(match opcode {
        opcode::SETXATTR => {
            let asked: &abi::SetxattrIn = rest.take()?;
            let name = rest.text()?;
            Operation::Setxattr { name, value: rest.bytes(asked.size)?, flags: asked.flags }
        }
        opcode::GETXATTR => {
            let size = rest.take::<abi::GetxattrIn>()?.size;
            Operation::Getxattr { name: rest.text()?, size }
        }
        opcode::LISTXATTR => Operation::Listxattr { size: rest.take::<abi::GetxattrIn>()?.size },
        _ => Operation::Removexattr { name: rest.text()? },
    })
}

/// Where messages are read into. Its beginning is aligned for all of the structures.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u64>);

impl Buffer {
    /// Makes room for so many bytes. Memory is only used once it was written to.
    pub(crate) fn new(size: usize) -> Buffer {
        Buffer(vec![0; size.div_ceil(8)])
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.0.as_mut_slice().as_mut_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(opcode: u32, body: &[u8]) -> Buffer {
        let header = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode,
            unique: 1,
            nodeid: 7,
            ..InHeader::default()
        };
        let mut buffer = Buffer::new(4096);
        let (start, rest) = buffer.bytes().split_at_mut(size_of::<InHeader>());
        start.copy_from_slice(header.as_bytes());
        rest[..body.len()].copy_from_slice(body);
        buffer
    }

    fn parsed(buffer: &mut Buffer) -> Result<Operation<'_>, Malformed> {
        let (header, body) = split(buffer.bytes())?;
        operation(header, Rest::whole(body))
    }

    #[test]
    fn a_rename_has_two_names() {
        let mut body = 9u64.to_ne_bytes().to_vec();
        body.extend(1u32.to_ne_bytes());
        body.extend([0; 4]);
        body.extend(b"from\0to\0");
        match parsed(&mut message(opcode::RENAME2, &body)) {
            Ok(Operation::Rename { name, to: 9, new_name, flags: 1 }) => {
                assert_eq!((name, new_name), (OsStr::new("from"), OsStr::new("to")));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_apart_from_the_structure_are_found() {
        let header = |opcode| InHeader { opcode, ..InHeader::default() };
        let mut structure = [0xff; 128];
        structure[..16].copy_from_slice(&[9u64.to_ne_bytes(), 1u64.to_ne_bytes()].concat());
        let rest = Rest::parts(&structure, b"from\0to\0");
        match operation(&header(opcode::RENAME2), rest) {
            Ok(Operation::Rename { name, to: 9, new_name, flags: 1 }) => {
                assert_eq!((name, new_name), (OsStr::new("from"), OsStr::new("to")));
            }
            other => panic!("{other:?}"),
        }
        match operation(&header(opcode::LOOKUP), Rest::parts(&structure, b"name\0")) {
            Ok(Operation::Lookup { name }) => assert_eq!(name, OsStr::new("name")),
            other => panic!("{other:?}"),
        }
        assert!(operation(&header(opcode::LOOKUP), Rest::parts(&structure, b"name")).is_err());
    }

    #[test]
    fn a_write_ends_where_it_says() {
        let asked = abi::WriteIn { offset: 5, size: 3, ..abi::WriteIn::default() };
        let body = [asked.as_bytes(), b"abc"].concat();
        match parsed(&mut message(opcode::WRITE, &body)) {
            Ok(Operation::Write { asked, data: Data(b"abc") }) => assert_eq!(asked.offset, 5),
            other => panic!("{other:?}"),
        }
        let lying = abi::WriteIn { size: 4, ..asked };
        let body = [lying.as_bytes(), b"abc"].concat();
        assert!(parsed(&mut message(opcode::WRITE, &body)).is_err());
    }

    #[test]
    fn an_attribute_has_name_and_value() {
        let head = [3u32, 2].map(u32::to_ne_bytes).concat();
        let body = [&head, &b"user.a\0xyz"[..]].concat();
        match parsed(&mut message(opcode::SETXATTR, &body)) {
            Ok(Operation::Setxattr { name, value: Data(b"xyz"), flags: 2 }) => {
                assert_eq!(name, OsStr::new("user.a"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn many_are_forgotten_at_once() {
        let mut body = [2u32.to_ne_bytes(), [0; 4]].concat();
        for n in [3u64, 1, 4, 1] {
            body.extend(n.to_ne_bytes());
        }
        match parsed(&mut message(opcode::BATCH_FORGET, &body)) {
            Ok(Operation::BatchForget { all: [a, b] }) => assert_eq!((a.nodeid, b.nodeid), (3, 4)),
            other => panic!("{other:?}"),
        }
        body[0] = 3;
        assert!(parsed(&mut message(opcode::BATCH_FORGET, &body)).is_err());
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        assert!(split(&[0; 16]).is_err());
        let mut name_without_end = message(opcode::LOOKUP, b"name");
        assert!(parsed(&mut name_without_end).is_err());
        assert!(parsed(&mut message(opcode::GETATTR, &[0; 8])).is_err());
        let mut unknown = message(4711, &[]);
        assert!(matches!(parsed(&mut unknown), Ok(Operation::Unknown)));
    }
}
