//! A container: the process that is its init, or the cgroup that is all there is of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::cpu::{CpuRules, CpuView};
use super::kept::Texts;
use super::load::Load;
use super::meter::Meter;
use super::notebook::Note;
use super::processes::{ProcessSum, Summed};
use crate::cgroup::cpu::{CpusetGroup, QuotaGroup, TimeGroup};
use crate::cgroup::io::{IoGroup, PressureGroup};
use crate::cgroup::memory::MemoryGroup;
use crate::cgroup::tasks::TaskGroup;
use crate::cgroup::{Controller, Hierarchy, Level, Membership};
use crate::error::ReadError;
use crate::host::cpulist::CpuList;
use crate::host::held::HeldFile;
use crate::host::parse;
use crate::host::process::{NamespaceId, Pid, Process, Processes, StartTime};
use crate::host::{self, Moment, USER_HZ};

/// Nanoseconds a tick.
const NS_A_TICK: u64 = 1_000_000_000 / USER_HZ;

/// The first process of a container.
#[derive(Debug)]
pub struct Init {
    pid: Pid,
    start: StartTime,
    cgroup: HeldFile,
    stat: HeldFile,
    /// Its pid namespace, where that is not the daemon's own.
    namespace: Option<NamespaceId>,
    /// How much later its clock runs than the daemon's, in nanoseconds.
    clock_offset: i128,
}

/// What makes a container one.
#[derive(Debug)]
pub enum Identity {
    /// A pid namespace, or a process that the runner named.
    Init(Init),
    /// A cgroup of the daemon's own pid namespace, and when its oldest process started.
    Cgroup(StartTime),
}

/// The cgroups of a container, their files held open.
#[derive(Debug, Default)]
pub struct Groups {
    /// Memory.
    pub memory: Option<MemoryGroup>,
    /// Whether the memory cgroup is the container's own, not one that it shares with the daemon.
    pub memory_is_own: bool,
    /// Quotas.
    pub quota: Option<QuotaGroup>,
    /// Time used; only where the counter is the container's own.
    pub time: Option<TimeGroup>,
    /// Allowed processors.
    pub cpuset: Option<CpusetGroup>,
    /// Use of devices; only where the counter is the container's own.
    pub io: Option<IoGroup>,
    /// Pressure; only where the cgroup is the container's own.
    pub pressure: Option<PressureGroup>,
    /// Threads; only where the cgroup is the container's own.
    pub tasks: Option<TaskGroup>,
}

/// A container and what is remembered of it between readings.
#[derive(Debug)]
pub struct Container {
    identity: Identity,
    groups: RwLock<(String, Arc<Groups>)>,
    /// When the cgroups were looked at last.
    looked: AtomicU64,
    texts: Texts,
    meter: Mutex<Meter>,
    load: Mutex<Load>,
    processes: Mutex<Summed>,
}

/// The cgroups that a container may share with its surroundings: those are not its own.
pub type Shared<'a> = Option<&'a Membership>;

impl Init {
    /// Looks at a process that is a container's init. `own` is the daemon's process.
    ///
    /// # Errors
    /// It is gone.
    pub fn new(process: &Process, own: &Process) -> Result<Init, ReadError> {
        // Where we may not look at the namespace, the process sums over it are not to be had.
        let theirs = process.namespace("pid").ok();
        let ours = own.namespace("pid").ok();
        Ok(Init {
            pid: process.pid(),
            start: StartTime(process.stat()?.start),
            cgroup: process.hold("cgroup")?,
            stat: process.hold("stat")?,
            namespace: theirs.filter(|_| theirs != ours),
            clock_offset: process.boottime_offset()? - own.boottime_offset()?,
        })
    }

    /// Returns the text of its cgroup file, or `None` once it is ending: v1 shows it in the root of each
    /// hierarchy from then on. The state is read after the text, so that this is not missed.
    fn membership(&self) -> Option<String> {
        let text = self.cgroup.text().ok()?;
        let stat = parse::pid_stat(&self.stat.text().ok()?).ok()?;
        (!stat.is_ending).then_some(text)
    }

    /// Number and start: the identity of the process.
    pub fn key(&self) -> (Pid, StartTime) {
        (self.pid, self.start)
    }
}

impl Container {
    /// A container that is known by its init.
    ///
    /// # Errors
    /// Its cgroups can't be opened.
    pub fn of_init(init: Init, tree: &Hierarchy, shared: Shared) -> Result<Container, ReadError> {
        let text = init.cgroup.text()?;
        let groups = Groups::open(tree, &Membership::parse(&text)?.of_container(), shared)?;
        Ok(Container::new(Identity::Init(init), text, groups))
    }

    /// A container that is known by its cgroups: `text` is /proc/PID/cgroup of one of its processes.
    ///
    /// # Errors
    /// Its cgroups can't be opened.
    pub fn of_cgroup(
        text: String,
        tree: &Hierarchy,
        processes: &Processes,
    ) -> Result<Container, ReadError> {
        let groups = Groups::open(tree, &Membership::parse(&text)?, None)?;
        let start = oldest(&groups, processes);
        Ok(Container::new(Identity::Cgroup(start), text, groups))
    }

    fn new(identity: Identity, text: String, groups: Groups) -> Container {
        Container {
            identity,
            groups: RwLock::new((text, Arc::new(groups))),
            looked: AtomicU64::new(Moment::now().0),
            texts: Texts::default(),
            meter: Mutex::default(),
            load: Mutex::default(),
            processes: Mutex::default(),
        }
    }

    /// Returns its cgroups as they were a few milliseconds ago at most: an init may be moved.
    ///
    /// # Errors
    /// New cgroups can't be opened. A container whose init is gone keeps its last ones.
    pub fn groups(&self, tree: &Hierarchy, shared: Shared) -> Result<Arc<Groups>, ReadError> {
        let known = self.groups.read();
        let Identity::Init(init) = &self.identity else { return Ok(known.1.clone()) };
        let now = Moment::now();
        if now.is_soon_after(Moment(self.looked.load(Ordering::Relaxed))) {
            return Ok(known.1.clone());
        }
        if init.cgroup.text().as_ref() == Ok(&known.0) {
            self.looked.store(now.0, Ordering::Relaxed);
            return Ok(known.1.clone());
        }
        let Some(now) = init.membership() else { return Ok(known.1.clone()) };
        drop(known);
        let membership = Membership::parse(&now)?.of_container();
        let groups = Arc::new(Groups::open(tree, &membership, shared)?);
        *self.groups.write() = (now, groups.clone());
        Ok(groups)
    }

    /// Notes that /proc/PID/cgroup of its init was read: if it is as it was, it need not be read again
    /// to find its cgroups.
    pub fn note_membership(&self, text: &str, now: Moment) {
        if self.groups.read().0 == text {
            self.looked.store(now.0, Ordering::Relaxed);
        }
    }

    /// Returns the text of /proc/PID/cgroup that it was last known by.
    pub fn membership(&self) -> String {
        self.groups.read().0.clone()
    }

    /// Whether its init lives, or its cgroup is still there.
    pub fn is_alive(&self) -> bool {
        match &self.identity {
            Identity::Init(init) => init.membership().is_some(),
            Identity::Cgroup(_) => self.groups.read().1.tasks.as_ref().is_none_or(|t| t.exists()),
        }
    }

    /// Returns its init, if it is known by one.
    pub fn init(&self) -> Option<&Init> {
        match &self.identity {
            Identity::Init(init) => Some(init),
            Identity::Cgroup(_) => None,
        }
    }

    /// Returns its pid namespace, where it has one of its own that we may look into.
    pub fn namespace(&self) -> Option<NamespaceId> {
        self.init().and_then(|i| i.namespace)
    }

    /// Returns how much later its clock runs than the daemon's, in nanoseconds.
    pub fn clock_offset(&self) -> i128 {
        self.init().map_or(0, |i| i.clock_offset)
    }

    /// Returns the nanoseconds since its start. In a time namespace with a clock of its own, that
    /// clock is what its processes' start times are told by, so it is the uptime there.
    pub fn age(&self) -> u64 {
        let now = u64::try_from(host::since_boot().as_nanos()).unwrap_or(u64::MAX);
        let start = match &self.identity {
            Identity::Init(init) => init.start,
            Identity::Cgroup(start) => *start,
        };
        let since_start = now.saturating_sub(start.0.saturating_mul(NS_A_TICK));
        match self.clock_offset() {
            0 => since_start,
            offset => u64::try_from(i128::from(now) + offset).unwrap_or(since_start),
        }
    }

    /// Its files' contents of a moment ago.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Returns what a successor of this process should know of it.
    pub fn note(&self) -> Option<Note> {
        let load = self.load.lock().note()?;
        Some(Note { load, meter: self.meter.lock().note() })
    }

    /// Goes on from what a predecessor of this process knew of it.
    pub fn resume(&self, note: &Note) {
        self.load.lock().resume(&note.load);
        *self.meter.lock() = Meter::resume(&note.meter);
    }

    /// Its processor time.
    pub fn meter(&self) -> &Mutex<Meter> {
        &self.meter
    }

    /// Its load averages.
    pub fn load(&self) -> &Mutex<Load> {
        &self.load
    }

    /// Sums over its processes, at most twice a second.
    ///
    /// # Errors
    /// /proc can't be read.
    pub fn processes(&self, all: &Processes) -> Result<Option<ProcessSum>, ReadError> {
        let Some(namespace) = self.namespace() else { return Ok(None) };
        self.processes.lock().of(namespace, all).map(Some)
    }
}

impl Groups {
    /// Opens the cgroups at `at`; what is also in `shared` is not the container's own.
    ///
    /// # Errors
    /// A cgroup is gone, or a file can't be opened.
    pub fn open(tree: &Hierarchy, at: &Membership, shared: Shared) -> Result<Groups, ReadError> {
        let levels = |c| levels_of(tree, at, c);
        let own = |c| is_own(at.path(tree, c), shared.and_then(|s| s.path(tree, c)));
        let mut groups = Groups::default();
        if let Some(levels) = levels(Controller::Memory)? {
            groups.memory = MemoryGroup::open(&levels)?;
            groups.memory_is_own = own(Controller::Memory);
            groups.offer_tasks(groups.memory_is_own, &levels);
        }
        if let Some(levels) = levels(Controller::Cpuset)? {
            groups.cpuset = CpusetGroup::open(&levels)?;
        }
        if let Some(levels) = levels(Controller::Cpu)? {
            groups.quota = Some(QuotaGroup::open(&levels)?);
            groups.offer_tasks(own(Controller::Cpu), &levels);
        }
        if own(Controller::CpuTime)
            && let Some(levels) = levels(Controller::CpuTime)?
        {
            groups.offer_time(&levels)?;
        }
        if own(Controller::Io)
            && let Some(levels) = levels(Controller::Io)?
            && let Some(leaf) = levels.first()
        {
            groups.io = IoGroup::open(leaf)?;
        }
        let unified = is_own(at.unified_path(), shared.and_then(|s| s.unified_path()));
        if unified && let (Some(tree), Some(path)) = (tree.unified(), at.unified_path()) {
            let levels = tree.levels(path)?;
            groups.offer_time(&levels)?;
            groups.pressure = PressureGroup::new(levels);
        }
        Ok(groups)
    }

    /// Returns the processors to show, of those that the machine has on.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn cpus(&self, online: &CpuList, rules: &CpuRules) -> Result<CpuView, ReadError> {
        let set = self.cpuset.as_ref().map(CpusetGroup::cpus).transpose()?;
        let allowed = set.map(|s| s.intersection(online)).filter(|s| !s.is_empty());
        let quota = self.quota.as_ref().map_or(Ok(None), QuotaGroup::smallest)?;
        Ok(CpuView::of(allowed.as_ref().unwrap_or(online), quota, rules))
    }

    /// Takes the first cgroup that is the container's own for its threads.
    fn offer_tasks(&mut self, is_own: bool, levels: &[Level]) {
        if is_own && self.tasks.is_none() {
            self.tasks = levels.first().map(TaskGroup::new);
        }
    }

    /// Takes the first counter that is the container's own for its time, and its threads.
    fn offer_time(&mut self, levels: &[Level]) -> Result<(), ReadError> {
        if self.time.is_none()
            && let Some(leaf) = levels.first()
        {
            self.time = TimeGroup::open(leaf)?;
        }
        self.offer_tasks(true, levels);
        Ok(())
    }
}

/// A cgroup is a container's own if it is not the whole machine's, nor one that it shares.
fn is_own(path: Option<&str>, shared: Option<&str>) -> bool {
    path.is_some_and(|p| p != "/") && path != shared
}

fn levels_of(
    tree: &Hierarchy,
    at: &Membership,
    controller: Controller,
) -> Result<Option<Vec<Level>>, ReadError> {
    match (tree.tree(controller), at.path(tree, controller)) {
        (Some(tree), Some(path)) => tree.levels(path).map(Some),
        _ => Ok(None),
    }
}

/// How many processes are asked for their age.
const MOST_ASKED: usize = 64;

/// Returns when the oldest of a cgroup's processes started: the lists are in order of joining (v2)
/// or of number (v1), so the oldest is among the first. Boot, where the cgroup is the machine's.
fn oldest(groups: &Groups, processes: &Processes) -> StartTime {
    let Some(tasks) = &groups.tasks else { return StartTime(0) };
    let threads = tasks.threads().unwrap_or_default().into_iter().take(MOST_ASKED);
    let start = |pid| processes.get(pid).and_then(|p| p.stat()).map(|s| s.start).ok();
    StartTime(threads.filter_map(start).min().unwrap_or(0))
}
