//! Exact counts of the messages that the kernel sends to a FUSE daemon, by its own trace events.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// How often each operation is done, so that what happens once doesn't count as one each.
const TIMES: u32 = 100;

/// Messages per operation, by name.
pub(crate) type PerOperation = BTreeMap<String, f64>;

/// A trace instance for one mount.
struct Trace {
    instance: PathBuf,
    tracefs: PathBuf,
}

/// Returns the messages of one open-read-close of a warm file, and of one create-write-close, on the
/// mount at `point`; `scratch` is an empty directory.
pub(crate) fn count(
    point: &Path,
    scratch: &Path,
    warm: &Path,
) -> io::Result<[(&'static str, PerOperation); 2]> {
    let trace = Trace::new(point, scratch)?;
    let read = || {
        let mut block = [0; 4096];
        fs::File::open(warm)?.read(&mut block).map(drop)
    };
    read()?;
    let reads = trace.during(|| (0..TIMES).try_for_each(|_| read()))?;
    let dir = point.join("messages");
    fs::create_dir(&dir)?;
    let create = |n: u32| fs::File::create(dir.join(n.to_string()))?.write_all(&[7; 4096]);
    create(TIMES)?;
    let creates = trace.during(|| (0..TIMES).try_for_each(create))?;
    fs::remove_dir_all(&dir)?;
    Ok([("open-read-close, warm", reads), ("create-write-close", creates)])
}

impl Trace {
    fn new(point: &Path, scratch: &Path) -> io::Result<Trace> {
        let tracefs = scratch.join("trace");
        fs::create_dir_all(&tracefs)?;
        let nothing = None::<&str>;
        mount(Some("tracefs"), &tracefs, Some("tracefs"), MsFlags::empty(), nothing)?;
        let instance = tracefs.join(format!("instances/bench-{}", std::process::id()));
        let trace = Trace { instance, tracefs };
        fs::create_dir(&trace.instance)?;
        let connection = nix::sys::stat::minor(fs::metadata(point)?.dev());
        trace.set("buffer_size_kb", "4096")?;
        let filter = format!("connection == {connection}");
        trace.set("events/fuse/fuse_request_send/filter", &filter)?;
        Ok(trace)
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.instance.join(file);
        fs::write(&path, value).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
    }

    fn during(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<PerOperation> {
        self.set("trace", "")?;
        self.set("events/fuse/fuse_request_send/enable", "1")?;
        let done = work();
        self.set("events/fuse/fuse_request_send/enable", "0")?;
        done?;
        let text = fs::read_to_string(self.instance.join("trace"))?;
        let mut messages = PerOperation::new();
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("(FUSE_") else { continue };
            let name = rest.split(')').next().unwrap_or(rest).to_owned();
            *messages.entry(name).or_default() += 1.0 / f64::from(TIMES);
        }
        Ok(messages)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.instance.exists()
            && let Err(e) = fs::remove_dir(&self.instance)
        {
            eprintln!("bench: remove {}: {e}", self.instance.display());
        }
        if let Err(e) = umount2(&self.tracefs, MntFlags::MNT_DETACH) {
            eprintln!("bench: unmount {}: {}", self.tracefs.display(), e.desc());
        }
    }
}
