//! From a stream to a stored layer: hashed, kept as it travels, decompressed and unpacked in one pass,
//! in two threads.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::{Context, Error, Result};
use crate::image::codec::{Encoder, Tee, decoder, sniff};
use crate::image::digest::{Digest, Hashing};
use crate::image::index::{Compression, Layer};
use crate::image::unpack::unpack;
use crate::image::work::Work;

/// Bytes that go from thread to thread at once, and how many such pieces may wait.
const CHUNK: usize = 64 * 1024;
const CHUNKS: usize = 32;
/// What an archive may have beyond its files' bytes: headers.
const HEADERS_MAX: u64 = 4 << 30;

/// A layer that is to be added.
pub(crate) struct Source<'a> {
    /// The layer, compressed or not.
    pub(crate) stream: Box<dyn Read + Send + 'a>,
    /// What it must turn out to be, where that is known.
    pub(crate) diff_id: Option<Digest>,
    /// Where the blob is or goes.
    pub(crate) blob: Blob,
}

/// Where a layer's blob is or goes.
pub(crate) enum Blob {
    /// To the store, from the stream; the digest is checked if it is known.
    Keep(Option<Digest>),
    /// It is this file in the staging directory, and checked.
    Staged(PathBuf, Digest, u64),
}

/// What went through the first thread.
struct Fed {
    diff_id: Digest,
    archive_size: u64,
    blob: Digest,
    blob_size: u64,
    compression: Compression,
    ours: bool,
}

/// Returns what is known of a layer that the store has already.
pub(crate) fn known(work: &Work, diff_id: &Digest) -> Result<Option<Layer>> {
    let index = work.store.index()?;
    let layer = index.layers.get(diff_id).cloned();
    Ok(layer.filter(|l| work.store.layer(diff_id).is_dir() && work.store.blob(&l.blob).is_file()))
}

/// Adds a layer, unless it is there already.
pub(crate) fn add(work: &Work, source: Source<'_>) -> Result<(Digest, Layer)> {
    if let Some(diff_id) = &source.diff_id
        && let Some(layer) = known(work, diff_id)?
    {
        return Ok((diff_id.clone(), layer));
    }
    let (dir, kept) = (work.temp("layer"), work.temp("blob"));
    fs::create_dir(&dir).step_at("create directory", &dir)?;
    let (blob, expected, staged) = match source.blob {
        Blob::Keep(expected) => (None, expected, Some(kept.clone())),
        Blob::Staged(path, digest, size) => (Some((digest, size)), None, Some(path)),
    };
    let feeder = Feeder { keep: blob.is_none().then_some(kept), blob, limit: work.rules.size_max };
    let (sender, receiver) = sync_channel(CHUNKS);
    let stream = source.stream;
    let (unpacked, fed) = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || feeder.feed(stream, sender));
        let unpacked = unpack(Chunks { receiver, chunk: io::Cursor::default() }, &dir, work.rules);
        let fed =
            feeder.join().unwrap_or_else(|_| Err(Error::new("read layer", "a thread failed")));
        (unpacked, fed)
    });
    let (unpacked, fed) = match (unpacked, fed) {
        (Ok(unpacked), Ok(fed)) => (unpacked, fed),
        // Where the stream failed, the archive seemed to end.
        (_, Err(e)) if !e.is(nix::errno::Errno::EPIPE) => return Err(e),
        (Err(e), _) => return Err(e),
        (Ok(_), Err(e)) => return Err(e),
    };
    check("layer", source.diff_id.as_ref(), &fed.diff_id)?;
    check("layer's blob", expected.as_ref(), &fed.blob)?;
    work.store.publish_layer(&dir, &fed.diff_id)?;
    if let Some(path) = staged {
        work.store.publish_blob(&path, &fed.blob)?;
    }
    work.count(&unpacked);
    let layer = Layer {
        blob: fed.blob,
        blob_size: fed.blob_size,
        compression: fed.compression,
        ours: fed.ours,
        size: unpacked.size,
        archive_size: fed.archive_size,
    };
    Ok((fed.diff_id, layer))
}

fn check(what: &str, expected: Option<&Digest>, got: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != got => {
            Err(Error::new(what, format!("its digest is {got}, and not {expected} as was said"))
                .hint("it is damaged, or somebody changed it"))
        }
        _ => Ok(()),
    }
}

struct Feeder {
    /// Where the blob goes.
    keep: Option<PathBuf>,
    /// What is known of the blob otherwise.
    blob: Option<(Digest, u64)>,
    limit: u64,
}

impl Feeder {
    /// Reads the stream to its end and sends the plain bytes on.
    fn feed(self, stream: impl Read + Send, to: SyncSender<io::Result<Vec<u8>>>) -> Result<Fed> {
        let outcome = self.read(stream, &to);
        if let Err(e) = &outcome {
            // Nobody may listen any more.
            match to.send(Err(io::Error::other(e.to_string()))) {
                Ok(()) | Err(_) => {}
            }
        }
        outcome
    }

    fn read(self, stream: impl Read + Send, to: &SyncSender<io::Result<Vec<u8>>>) -> Result<Fed> {
        let (compression, stream) = sniff(stream)?;
        let Some(path) = &self.keep else {
            let plain = Hashing::new(decoder(compression, stream)?);
            let (_, diff_id, archive_size) = self.pump(plain, to)?.finish();
            let (blob, blob_size) = self.blob.unwrap_or_else(|| (diff_id.clone(), archive_size));
            return Ok(Fed { diff_id, archive_size, blob, blob_size, compression, ours: false });
        };
        let file = File::create_new(path).step_at("create", path)?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let (diff_id, archive_size, (blob, blob_size), ours) = if compression == Compression::None {
            let mut kept = Encoder::to_keep(Hashing::new(&mut file))?;
            let plain = Hashing::new(Tee::new(stream, &mut kept));
            let (_, diff_id, archive_size) = self.pump(plain, to)?.finish();
            let (_, blob, size) = kept.finish().step_at("write", path)?.finish();
            (diff_id, archive_size, (blob, size), true)
        } else {
            let mut raw = Hashing::new(Tee::new(stream, &mut file));
            let plain = Hashing::new(decoder(compression, &mut raw)?);
            let (_, diff_id, archive_size) = self.pump(plain, to)?.finish();
            // What may stand after the last frame is part of the blob.
            io::copy(&mut raw, &mut io::sink()).step("read layer")?;
            let (_, blob, size) = raw.finish();
            (diff_id, archive_size, (blob, size), false)
        };
        file.flush().step_at("write", path)?;
        let compression = if ours { Compression::Zstd } else { compression };
        Ok(Fed { diff_id, archive_size, blob, blob_size, compression, ours })
    }

    fn pump<R: Read>(
        &self,
        mut plain: Hashing<R>,
        to: &SyncSender<io::Result<Vec<u8>>>,
    ) -> Result<Hashing<R>> {
        let most = self.limit.saturating_add(HEADERS_MAX);
        let mut total = 0u64;
        loop {
            let mut chunk = vec![0; CHUNK];
            let n = fill(&mut plain, &mut chunk).step("read layer")?;
            if n == 0 {
                return Ok(plain);
            }
            total += n as u64;
            if total > most {
                return Err(Error::new("unpack layer", format!("it has more than {most} bytes"))
                    .hint("allow more by --max-size, if you trust it"));
            }
            chunk.truncate(n);
            // Who unpacks has given up, and says why.
            to.send(Ok(chunk)).map_err(|_| Error::new("unpack layer", nix::errno::Errno::EPIPE))?;
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buf.get_mut(have..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// The second thread's end.
struct Chunks {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.chunk.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            match self.receiver.recv() {
                Ok(next) => self.chunk = io::Cursor::new(next?),
                Err(_) => return Ok(0),
            }
        }
    }
}
