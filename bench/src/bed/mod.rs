//! Where work is measured: a fresh mount of one subject, and the meter around each case.

pub(crate) mod checksum;
pub(crate) mod protocol;
pub(crate) mod scale;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::measure::latency::Timer;
use crate::measure::process::{self, Moment};
use crate::measure::strace::Watch;
use crate::measure::told::Told;
use crate::measure::trace::{Counts, TAIL};
use crate::record::{Point, Row, Spent, Unit};
use crate::subject::Kind;
use crate::subject::mount::{Mounted, Place, mount_on, mount_shim_on};
use protocol::{Job, Link, Mode, Said};

/// What will be done with a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing changes: a bare subject may be the lower layer itself.
    Read,
    /// A bare subject gets a copy.
    Write,
}

/// A subject at work.
#[derive(Debug)]
pub(crate) struct Bed<'a> {
    /// What shall be done.
    pub(crate) job: &'a Job,
    link: &'a mut Link,
    mounted: Option<Mounted>,
    watch: Option<(Watch, Option<Told>)>,
    /// Where the time went so far.
    pub(crate) spent: Spent,
}

impl<'a> Bed<'a> {
    /// Returns a bed without a mount.
    pub(crate) fn new(job: &'a Job, link: &'a mut Link) -> Bed<'a> {
        Bed { job, link, mounted: None, watch: None, spent: Spent::default() }
    }

    /// Returns the path of a fixture.
    pub(crate) fn fixture(&self, name: &str) -> PathBuf {
        self.job.home.join("fixture").join(name)
    }

    /// Returns a file of this worker's own, outside of every mount.
    pub(crate) fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.job.home.join("scratch");
        fs::create_dir_all(&dir)?;
        Ok(dir.join(name))
    }

    /// Whether the subject merges layers.
    pub(crate) fn is_union(&self) -> bool {
        !matches!(self.job.subject.kind, Kind::Bare | Kind::Bind)
    }

    /// Returns the daemon of the present mount.
    pub(crate) fn daemon(&self) -> Option<i32> {
        self.mounted.as_ref().and_then(|m| m.daemon)
    }

    /// Mounts the subject with the given lower layers, topmost first, and an empty upper; returns the
    /// mount point. A mount from before is gone.
    pub(crate) fn mount(&mut self, lowers: &[PathBuf], purpose: Use) -> io::Result<PathBuf> {
        let start = Instant::now();
        self.unmount();
        let base = self.clean()?;
        let dir = |name: &str| {
            let path = base.join(name);
            fs::create_dir_all(&path).map(|()| path)
        };
        let mut place = Place {
            lowers: lowers.to_vec(),
            upper: dir("upper")?,
            work: dir("work")?,
            point: dir("mnt")?,
            log: self.log(),
        };
        if let (Kind::Bare | Kind::Bind, [lower, ..]) = (self.job.subject.kind, lowers) {
            match purpose {
                Use::Read => place.point = lower.clone(),
                Use::Write => copy(lower, &place.point)?,
            }
        }
        let settling = self.spent.settling;
        self.settle()?;
        let mounted = mount_on(&self.job.subject, &place)?;
        let point = mounted.point.clone();
        self.mounted = Some(mounted);
        self.spent.beds += start.elapsed().as_secs_f64() - (self.spent.settling - settling);
        Ok(point)
    }

    /// Where the daemon says what it has counted, where nobody else counts that.
    fn log(&self) -> Option<PathBuf> {
        let tells = self.job.mode == Mode::Watch && self.job.subject.counts_messages();
        tells.then(|| self.job.home.join("daemon.log"))
    }

    /// Mounts the subject again on the layers that a mount of it, whose daemon is dead, has left.
    pub(crate) fn mount_again(&mut self, lowers: &[PathBuf]) -> io::Result<PathBuf> {
        self.unmount();
        let base = self.job.home.join("place");
        let [upper, work, point] = ["upper", "work", "mnt"].map(|name| base.join(name));
        let place = Place { lowers: lowers.to_vec(), upper, work, point, log: None };
        let mounted = mount_on(&self.job.subject, &place)?;
        let point = mounted.point.clone();
        self.mounted = Some(mounted);
        Ok(point)
    }

    /// Starts a shim and returns its mount point; the kernel's own needs none.
    pub(crate) fn mount_shim(&mut self) -> io::Result<PathBuf> {
        self.unmount();
        if self.job.subject.kind == Kind::RawProc {
            return Ok(PathBuf::from("/"));
        }
        let point = self.clean()?.join("mnt");
        fs::create_dir_all(&point)?;
        let mounted = mount_shim_on(&self.job.subject, &point)?;
        self.mounted = Some(mounted);
        Ok(point)
    }

    /// Unmounts.
    pub(crate) fn unmount(&mut self) {
        self.mounted = None;
    }

    /// Unmounts, and removes what is left of the mount.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let start = Instant::now();
        self.unmount();
        self.clean()?;
        self.spent.beds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Removes what mounts have left and returns the empty place.
    pub(crate) fn clean(&self) -> io::Result<PathBuf> {
        let base = self.job.home.join("place");
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        fs::create_dir_all(&base)?;
        Ok(base)
    }

    /// Writes back what work before has left, so that it doesn't weigh on what comes.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let start = Instant::now();
        sys::copy::syncfs(fs::File::open(&self.job.home)?)?;
        self.spent.settling += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Begins the description of a case.
    pub(crate) fn case<'b>(&'b mut self, name: &str) -> Case<'a, 'b> {
        Case {
            bed: self,
            name: name.to_owned(),
            ops: 1,
            bytes: 0,
            tree: None,
            settle: false,
            elapsed: false,
            point: None,
        }
    }

    /// Reports a number of bytes for each of `ops`.
    pub(crate) fn value(&mut self, name: &str, value: f64, ops: u64) -> io::Result<()> {
        let row = Row { unit: Unit::Bytes, value: Some(value), ops, ..self.row(name) };
        self.report(row)
    }

    /// Reports times during which nobody worked, so that it had no costs.
    pub(crate) fn times(&mut self, name: &str, times: &[Duration]) -> io::Result<()> {
        let mut timer = Timer::new()?;
        times.iter().for_each(|time| timer.record(*time));
        let ops = timer.count();
        let value = Some(timer.total().as_secs_f64() / ops.max(1) as f64);
        let row = Row { value, ops, latency: timer.latency(), ..self.row(name) };
        self.spent.work += timer.total().as_secs_f64();
        self.report(row)
    }

    /// Returns what is the same in all rows of a case.
    fn row(&self, name: &str) -> Row {
        Row {
            suite: self.job.suite.clone(),
            block: self.job.block.clone(),
            case: name.to_owned(),
            subject: self.job.subject.name.clone(),
            rss: self.daemon().map_or(0, process::resident),
            fds: self.daemon().map_or(0, process::descriptors),
            ..Row::default()
        }
    }

    fn report(&mut self, row: Row) -> io::Result<()> {
        // Where things are counted, times and memory say nothing.
        if self.job.counts() { Ok(()) } else { self.link.say(&Said::Row(Box::new(row))) }
    }

    fn begin_counting(&mut self) -> io::Result<()> {
        let Some(mounted) = self.mounted.as_ref() else { return Ok(()) };
        let Some(pid) = mounted.daemon.filter(|_| self.job.counts()) else { return Ok(()) };
        if self.job.mode == Mode::Watch {
            let told = self.log().map(|log| Told::begin(&log, pid)).transpose()?;
            self.watch = Some((Watch::begin(&self.job.home, pid)?, told));
            return Ok(());
        }
        let device = fs::metadata(&mounted.point)?.dev();
        let daemon = mounted.daemon;
        // Mounts without a device have only a minor number.
        let device = nix::sys::stat::minor(device) as u32;
        self.link.ask(&Said::Begin { device, daemon })
    }

    /// Ends counting; returns the counts of system calls and messages where this process has them.
    fn end_counting(&mut self) -> io::Result<(Option<Counts>, Option<Counts>)> {
        if let Some((watch, told)) = self.watch.take() {
            // Answers that nobody waits for are part of it.
            std::thread::sleep(TAIL);
            let calls = watch.end()?;
            return Ok((Some(calls), told.map(Told::end).transpose()?));
        }
        if self.job.mode == Mode::Count && self.daemon().is_some() {
            self.link.ask(&Said::End)?;
        }
        Ok((None, None))
    }
}

/// How a tree's checksum is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// Times of files are part of it.
    Count,
    /// The work sets times that differ.
    Vary,
}

/// A case that is about to be measured.
pub(crate) struct Case<'a, 'b> {
    bed: &'b mut Bed<'a>,
    name: String,
    ops: u64,
    bytes: u64,
    tree: Option<(PathBuf, Times)>,
    settle: bool,
    elapsed: bool,
    point: Option<Point>,
}

impl Case<'_, '_> {
    /// How many operations it is, where they aren't timed one by one.
    pub(crate) fn ops(self, ops: u64) -> Self {
        Case { ops, ..self }
    }

    /// How many bytes it moves.
    pub(crate) fn bytes(self, bytes: u64) -> Self {
        Case { bytes, ..self }
    }

    /// The tree below `path` must afterwards be the same for all subjects.
    pub(crate) fn leaves(self, path: &Path, times: Times) -> Self {
        Case { tree: Some((path.to_path_buf(), times)), ..self }
    }

    /// What was written before is written back first.
    pub(crate) fn settled(self) -> Self {
        Case { settle: true, ..self }
    }

    /// The time is that from start to end, though single operations are timed: they overlap.
    pub(crate) fn by_elapsed_time(self) -> Self {
        Case { elapsed: true, ..self }
    }

    /// It is a point of a curve.
    pub(crate) fn at(self, curve: &str, axis: &str, x: f64) -> Self {
        let point = Point { curve: curve.to_owned(), axis: axis.to_owned(), x };
        Case { point: Some(point), ..self }
    }

    /// Does the work, which returns a digest of what it saw, and reports what it cost.
    ///
    /// # Errors
    /// Nobody listens any more. That the work fails is reported, and isn't an error.
    pub(crate) fn measure(
        self,
        work: impl FnOnce(&mut Timer) -> io::Result<u64>,
    ) -> io::Result<()> {
        let job = self.bed.job;
        if self.settle && job.mode == Mode::Time {
            self.bed.settle()?;
        }
        let daemon = self.bed.daemon();
        let mut timer = Timer::new()?;
        self.bed.begin_counting()?;
        let before = Moment::now(daemon)?;
        let start = Instant::now();
        let done = work(&mut timer);
        let wall = start.elapsed();
        let after = Moment::now(daemon).unwrap_or(before);
        let (syscalls, messages) = self.bed.end_counting()?;
        self.bed.spent.work += wall.as_secs_f64();
        let single = timer.count() > 0;
        let ops = if single { timer.count() } else { self.ops };
        let time = if single && !self.elapsed { timer.total() } else { wall };
        let mut row = Row {
            ops,
            value: Some(time.as_secs_f64() / ops.max(1) as f64),
            caller: after.caller.saturating_sub(before.caller).as_secs_f64(),
            daemon: after.daemon.saturating_sub(before.daemon).as_secs_f64(),
            bytes: self.bytes,
            latency: timer.latency(),
            spread: timer.spread(),
            point: self.point,
            written: after.written.saturating_sub(before.written),
            syscalls,
            messages,
            ..self.bed.row(&self.name)
        };
        let checking = Instant::now();
        let none = checksum::Sums::default();
        let tree = self.tree.map_or(Ok(none), |(path, times)| checksum::of(&path, times));
        match done.and_then(|seen| tree.map(|sums| (seen, sums))) {
            Ok((seen, sums)) => {
                let digest = checksum::mix(seen, sums.contents);
                row.digest = format!("{digest:016x}");
                row.exact = format!("{:016x}", checksum::mix(digest, sums.links_and_times));
            }
            Err(e) => (row.value, row.error) = (None, Some(e.to_string())),
        }
        self.bed.spent.checks += checking.elapsed().as_secs_f64();
        self.bed.link.say(&Said::Row(Box::new(row)))
    }
}

/// Copies what is in `from` into the empty directory `to`.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    let status = status.map_err(|e| io::Error::new(e.kind(), format!("cp: {e}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cp: {status}"))) }
}
