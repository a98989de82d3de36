//! How layers and archives are compressed: recognised by their first bytes, whatever they are called.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;

use crate::error::{Context, Error, Result};
use crate::image::index::Compression;

/// Level at which layers that came plain are kept: a quarter of the size at the speed of a disk.
const KEEP_LEVEL: i32 = 1;

/// A stream of which some bytes were looked at.
pub(crate) type Peeked<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// Returns how a stream is compressed, and the whole stream.
///
/// # Errors
/// It is compressed in a way that images aren't.
pub(crate) fn sniff<R: Read>(mut stream: R) -> Result<(Compression, Peeked<R>)> {
    let mut head = Vec::new();
    stream.by_ref().take(6).read_to_end(&mut head).step("read archive")?;
    let compression = match head.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame, with which zstd files may begin.
        [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(unsupported("xz", "xz -d")),
        [b'B', b'Z', b'h', ..] => return Err(unsupported("bzip2", "bzip2 -d")),
        _ => Compression::None,
    };
    Ok((compression, io::Cursor::new(head).chain(stream)))
}

fn unsupported(what: &str, command: &str) -> Error {
    Error::new("read archive", format!("compression by {what} is not supported"))
        .hint(format!("decompress it first: `{command} < FILE | runner ...`"))
}

/// Returns the plain bytes of a stream.
pub(crate) fn decoder<'a>(
    compression: Compression,
    stream: impl Read + Send + 'a,
) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(stream),
        Compression::Gzip => {
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(1 << 16, stream)))
        }
        Compression::Zstd => Box::new(zstd::Decoder::new(stream).step("read zstd")?),
    })
}

/// Compresses what is written to it.
pub(crate) enum Encoder<W: Write> {
    /// Not at all.
    None(W),
    /// gzip.
    Gzip(flate2::write::GzEncoder<W>),
    /// zstd, in several threads.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Compresses at a level, or at the one that is usual.
    pub(crate) fn new(compression: Compression, level: Option<u32>, to: W) -> Result<Encoder<W>> {
        Ok(match compression {
            Compression::None => Encoder::None(to),
            Compression::Gzip => {
                let level = flate2::Compression::new(level.unwrap_or(6).min(9));
                // No name and no time: equal layers are equal bytes.
                Encoder::Gzip(flate2::GzBuilder::new().mtime(0).write(to, level))
            }
            Compression::Zstd => {
                let level = level.map_or(3, |l| l.clamp(1, 20) as i32);
                Encoder::Zstd(zstd_encoder(to, level)?)
            }
        })
    }

    /// Compresses for the store.
    pub(crate) fn to_keep(to: W) -> Result<Encoder<W>> {
        zstd_encoder(to, KEEP_LEVEL).map(Encoder::Zstd)
    }

    /// Writes what is left, and returns where it went.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Encoder::None(w) => Ok(w),
            Encoder::Gzip(e) => e.finish(),
            Encoder::Zstd(e) => e.finish(),
        }
    }
}

fn zstd_encoder<W: Write>(to: W, level: i32) -> Result<zstd::Encoder<'static, W>> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8)) as u32;
    let make = || {
        let mut encoder = zstd::Encoder::new(to, level)?;
        encoder.multithread(threads)?;
        encoder.include_checksum(true)?;
        Ok::<_, io::Error>(encoder)
    };
    make().step("compress by zstd")
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::None(w) => w.write(buf),
            Encoder::Gzip(e) => e.write(buf),
            Encoder::Zstd(e) => e.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::None(w) => w.flush(),
            Encoder::Gzip(e) => e.flush(),
            Encoder::Zstd(e) => e.flush(),
        }
    }
}

/// Reads, and writes what was read to a second place.
pub(crate) struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Tee<R, W> {
    /// Copies everything that is read from `from` to `to`.
    pub(crate) fn new(from: R, to: W) -> Tee<R, W> {
        Tee { from, to }
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.to.write_all(buf.get(..n).unwrap_or_default())?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut out = Encoder::new(compression, None, Vec::new()).unwrap();
            out.write_all(b"some text").unwrap();
            let bytes = out.finish().unwrap();
            let (found, stream) = sniff(bytes.as_slice()).unwrap();
            assert_eq!(found, compression);
            let mut text = String::new();
            decoder(found, stream).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "some text");
        }
    }

    #[test]
    fn other_compressions_are_named() {
        let e = sniff(&b"\xfd7zXZ\0..."[..]).err().unwrap().to_string();
        assert!(e.contains("xz") && e.contains("decompress"), "{e}");
    }
}
