//! Reads and writes of one large file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fastrand::Rng;

use super::Block;
use super::fixture::Fixture;
use super::tree;
use crate::bed::checksum::digest;
use crate::bed::{Bed, Times, Use};
use crate::measure::latency::Timer;
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] =
    &[block("read", reads), block("write", writes), block("small writes", small_writes)];

const fn block(name: &'static str, run: fn(&mut Bed<'_>) -> io::Result<()>) -> Block {
    let fixtures = &[Fixture::Big];
    Block {
        suite: "io",
        name,
        family: Family::FileSystem,
        kinds: &[],
        fixtures,
        counted: true,
        needs: &[],
        extra: false,
        run,
    }
}

/// What is read and written at once, sequentially.
const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;

/// Reads a file from its beginning to its end, and a byte of each page for a digest.
fn sequential(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut block = vec![0; CHUNK];
    let (mut at, mut sum) = (0, 0u64);
    loop {
        match file.read_at(&mut block, at)? {
            0 => return Ok(sum),
            n => {
                sum += block[..n].iter().step_by(PAGE).map(|b| u64::from(*b)).sum::<u64>();
                at += n as u64;
            }
        }
    }
}

fn reads(bed: &mut Bed<'_>) -> io::Result<()> {
    let lower = bed.fixture("big");
    let size = bed.job.scale.big;
    let count = bed.job.scale.rewrites;
    let seed = bed.job.seed;
    tree::evict(&lower, bed.job.drop_caches)?;
    let path = bed.mount(&[lower], Use::Read)?.join("big");
    bed.case("sequential read, cold").bytes(size).measure(|_| sequential(&path))?;
    bed.case("sequential read, warm").bytes(size).measure(|_| sequential(&path))?;
    let pages = size / PAGE as u64;
    bed.case("random 4K reads, warm").bytes(u64::from(count) * PAGE as u64).measure(|t| {
        let file = File::open(&path)?;
        let mut rng = Rng::with_seed(seed);
        let mut block = [0; PAGE];
        let mut sum = 0u64;
        for _ in 0..count {
            let at = rng.u64(..pages) * PAGE as u64;
            t.op(|| file.read_exact_at(&mut block, at))?;
            sum = sum.wrapping_add(u64::from(block[7]));
        }
        Ok(sum)
    })?;
    bed.case("mmap, a byte of each page").bytes(size).measure(|_| {
        let file = File::open(&path)?;
        let map = sys::map::Mapping::new(&file, size as usize)?;
        let pages = (0..size as usize).step_by(PAGE);
        Ok(pages.filter_map(|at| map.byte(at)).map(u64::from).sum())
    })
}

fn writes(bed: &mut Bed<'_>) -> io::Result<()> {
    let size = bed.job.scale.big;
    let count = bed.job.scale.rewrites;
    let seed = bed.job.seed;
    let dir = bed.mount(&[bed.fixture("big")], Use::Write)?.join("new");
    fs::create_dir(&dir)?;
    let path = dir.join("file");
    let block = tree::block(CHUNK);
    bed.case("sequential write").settled().bytes(size).leaves(&dir, Times::Vary).measure(|_| {
        let mut file = File::create(&path)?;
        for _ in 0..size / CHUNK as u64 {
            file.write_all(&block)?;
        }
        Ok(0)
    })?;
    let pages = size / PAGE as u64;
    let bytes = u64::from(count) * PAGE as u64;
    bed.case("random 4K rewrites + fsync")
        .settled()
        .ops(count.into())
        .bytes(bytes)
        .leaves(&dir, Times::Vary)
        .measure(|_| {
            let file = File::options().write(true).open(&path)?;
            let mut rng = Rng::with_seed(seed);
            for n in 0..count as usize {
                let page = &block[n % 200 * PAGE..][..PAGE];
                file.write_all_at(page, rng.u64(..pages) * PAGE as u64)?;
            }
            file.sync_all()?;
            Ok(0)
        })
}

fn small_writes(bed: &mut Bed<'_>) -> io::Result<()> {
    let count = bed.job.scale.rewrites;
    let dir = bed.mount(&[bed.fixture("big")], Use::Write)?.join("new");
    fs::create_dir(&dir)?;
    let block = tree::block(PAGE);
    let append = |t: &mut Timer, name: &str, length: usize, times: u32| {
        let mut file = File::create(dir.join(name))?;
        for _ in 0..times {
            t.op(|| file.write_all(&block[..length]))?;
        }
        Ok(digest((length, times)))
    };
    bed.case("1,000 writes of 4K to a new file")
        .settled()
        .bytes(1000 * PAGE as u64)
        .leaves(&dir, Times::Vary)
        .measure(|t| append(t, "pages", PAGE, 1000))?;
    bed.case("writes of 100 bytes")
        .settled()
        .bytes(u64::from(count) * 100)
        .leaves(&dir, Times::Vary)
        .measure(|t| append(t, "bytes", 100, count))?;
    bed.case("write 4K + fsync").settled().leaves(&dir, Times::Vary).measure(|t| {
        let mut file = File::create(dir.join("synced"))?;
        for _ in 0..10 {
            t.op(|| {
                file.write_all(&block)?;
                file.sync_all()
            })?;
        }
        Ok(0)
    })
}
