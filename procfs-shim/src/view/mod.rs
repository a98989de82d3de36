//! What a reader may see: its container, and that container's memory, processors, time and load.

pub mod caller;
pub mod container;
pub mod cpu;
pub mod kept;
pub mod load;
pub mod memory;
pub mod meter;
pub mod notebook;
pub mod processes;

use std::sync::Arc;

use nix::errno::Errno;

use crate::cgroup::io::{IoTable, Resource};
use crate::cgroup::memory::Swap;
use crate::cgroup::{Controller, CpuTimes, Hierarchy, Membership};
use crate::error::ReadError;
use crate::host::parse::HostMeminfo;
use crate::host::process::{Pid, StartTime};
use crate::host::{Host, Moment};
use caller::{Callers, Key};
use container::{Container, Groups, Init};
use cpu::{CpuRules, CpuView, Numbering, Quota};
use load::LoadView;
use memory::{MemoryRules, MemoryView, Show};
use meter::CpuAccount;
use notebook::{Notebook, Notes};

/// Thread states asked for in one round of samples over all containers.
const SAMPLE_BUDGET: usize = 4096;

/// What is the operator's choice.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Of memory.
    pub memory: MemoryRules,
    /// Of processors.
    pub cpu: CpuRules,
}

impl Rules {
    /// What is done unless the operator says otherwise.
    pub const USUAL: Rules = Rules {
        memory: MemoryRules { declared: None, swap: Show::Shown, zswap: Show::Shown },
        cpu: CpuRules { declared: None, quota: Quota::Counted, numbering: Numbering::Kernel },
    };
}

/// Whose files they are.
#[derive(Debug)]
enum Whose {
    /// Each reader's own container's.
    Reader(Callers),
    /// One container's, whoever reads.
    One(One),
}

/// The one container that is served.
#[derive(Debug)]
struct One {
    container: Arc<Container>,
    /// The daemon's cgroups: what the container shares with its runner is not its own.
    shared: Membership,
    /// Where a worker after this one finds what is known.
    notebook: Option<Notebook>,
}

/// The views of all readers.
#[derive(Debug)]
pub struct Views {
    host: Host,
    tree: Hierarchy,
    rules: Rules,
    whose: Whose,
}

/// A container as one request sees it.
#[derive(Debug)]
pub struct View<'a> {
    views: &'a Views,
    container: Arc<Container>,
    groups: Arc<Groups>,
}

impl Views {
    /// Views by reader. `notebook` has what a worker before this one knew.
    ///
    /// # Errors
    /// /proc is another pid namespace's.
    pub fn by_reader(
        host: Host,
        tree: Hierarchy,
        rules: Rules,
        notebook: Option<Notebook>,
    ) -> Result<Views, ReadError> {
        let callers = Callers::new(host.processes(), notebook)?;
        Ok(Views { host, tree, rules, whose: Whose::Reader(callers) })
    }

    /// The view of the one container whose init is `pid`; if `start` is given, the process must have
    /// started then. `notebook` has what a worker before this one knew.
    ///
    /// # Errors
    /// `ESRCH`: there is no such process.
    pub fn of_one(
        host: Host,
        tree: Hierarchy,
        rules: Rules,
        pid: Pid,
        start: Option<StartTime>,
        notebook: Option<Notebook>,
    ) -> Result<Views, ReadError> {
        let own = host.processes().own()?;
        let process = host.processes().get(pid)?;
        let init = Init::new(&process, &own)?;
        if start.is_some_and(|s| s != init.key().1) {
            return Err(ReadError::UnknownReader);
        }
        let shared = Membership::parse(&own.hold("cgroup")?.text()?)?;
        let name = Key::of(&init).name();
        let container = Arc::new(Container::of_init(init, &tree, Some(&shared))?);
        if let Some(note) = notebook.as_ref().and_then(|n| n.take(&name)) {
            container.resume(&note);
        }
        Ok(Views { host, tree, rules, whose: Whose::One(One { container, shared, notebook }) })
    }

    /// Returns what a reader sees.
    ///
    /// # Errors
    /// Its container can't be found.
    pub fn of(&self, reader: Pid) -> Result<View<'_>, ReadError> {
        let now = Moment::now();
        let known = self.known(reader, now);
        self.view(known.map_or_else(|| self.find(reader, now), Ok)?)
    }

    /// Finds the container of a reader that isn't [known](Views::known).
    ///
    /// # Errors
    /// It can't be found.
    pub fn find(&self, reader: Pid, now: Moment) -> Result<Arc<Container>, ReadError> {
        match &self.whose {
            Whose::One(one) => Ok(one.container.clone()),
            Whose::Reader(callers) => callers.find(reader, now, self.host.processes(), &self.tree),
        }
    }

    /// Returns the container of a reader that was seen before, which costs next to nothing.
    pub fn known(&self, reader: Pid, now: Moment) -> Option<Arc<Container>> {
        match &self.whose {
            Whose::One(one) => Some(one.container.clone()),
            Whose::Reader(callers) => callers.known(reader, now),
        }
    }

    /// Returns what the readers of a container see.
    ///
    /// # Errors
    /// Its cgroups can't be opened.
    pub fn view(&self, container: Arc<Container>) -> Result<View<'_>, ReadError> {
        let groups = container.groups(&self.tree, self.shared())?;
        Ok(View { views: self, container, groups })
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns how many containers and readers are known.
    pub fn known_ones(&self) -> (usize, usize) {
        match &self.whose {
            Whose::Reader(callers) => callers.count(),
            Whose::One(..) => (1, 0),
        }
    }

    /// Whether an error says that the one container that is served has ended: there is nobody left
    /// whom the machine's figures could serve.
    pub fn is_gone(&self, cause: &ReadError) -> bool {
        let ended = matches!(cause, ReadError::Io(_, Errno::ENODEV | Errno::ESRCH));
        ended && matches!(self.whose, Whose::One(..))
    }

    /// Takes a sample of each container's load.
    pub fn sample(&self) {
        let containers = match &self.whose {
            Whose::One(one) => vec![one.container.clone()],
            Whose::Reader(callers) => {
                callers.look_around(self.host.processes(), &self.tree);
                callers.containers()
            }
        };
        let each = (SAMPLE_BUDGET / containers.len().max(1)).max(16);
        for container in containers {
            match container.groups(&self.tree, self.shared()) {
                Ok(groups) => {
                    load::sample(&container, &groups, self.host.processes(), each);
                    self.note_capacity(View { views: self, container, groups });
                }
                Err(e) => log::debug!("sample of a container's load: {e}"),
            }
        }
        match &self.whose {
            Whose::Reader(callers) => callers.note(),
            Whose::One(one) => one.note(),
        }
    }

    /// Reads a container's processor time, so that a change of its capacity is known within seconds
    /// although nobody asks.
    fn note_capacity(&self, view: View) {
        if let Err(e) = view.cpus().and_then(|cpus| view.account(&cpus)) {
            log::debug!("sample of a container's processor time: {e}");
        }
    }

    fn shared(&self) -> Option<&Membership> {
        match &self.whose {
            Whose::One(one) => Some(&one.shared),
            Whose::Reader(_) => None,
        }
    }
}

impl One {
    /// Writes down for a successor of this process what is known of the container.
    fn note(&self) {
        let key = self.container.init().map(Key::of);
        if let Some(notebook) = &self.notebook
            && let Some(name) = key.map(|key| key.name())
            && let Some(note) = self.container.note()
        {
            notebook.note(Notes::from([(name, note)]));
        }
    }
}

impl View<'_> {
    /// The machine.
    pub fn host(&self) -> &Host {
        &self.views.host
    }

    /// Returns its memory, and the machine's; `None` if the whole machine's is its own.
    ///
    /// # Errors
    /// A file can't be read, or no hierarchy has the controller.
    pub fn memory(&self) -> Result<Option<(MemoryView, Arc<HostMeminfo>)>, ReadError> {
        let rules = &self.views.rules.memory;
        let host = self.host().meminfo()?;
        let sum = match rules.declared {
            Some(_) if !(self.groups.memory_is_own && self.groups.memory.is_some()) => {
                self.container.processes(self.host().processes())?
            }
            _ => None,
        };
        let mut levels = match &self.groups.memory {
            Some(group) if rules.declared.is_none() && group.is_whole_machine()? => {
                return Ok(None);
            }
            Some(group) => group.read(self.swap(&host))?,
            None if rules.declared.is_some() => Vec::new(),
            None => return self.without(Controller::Memory),
        };
        if let Some(sum) = sum {
            // Limits of the cgroup that it shares hold too; its own use counts against its own.
            levels.insert(0, sum.level());
        } else if levels.is_empty() {
            levels.push(Default::default());
        }
        Ok(MemoryView::of(&levels, &host, rules).map(|view| (view, host)))
    }

    fn swap(&self, host: &HostMeminfo) -> Swap {
        let is_shown = self.views.rules.memory.swap == Show::Shown;
        if is_shown && host.bytes("SwapTotal") > 0 { Swap::Read } else { Swap::Skipped }
    }

    /// Returns its processors.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn cpus(&self) -> Result<CpuView, ReadError> {
        let online = self.host().online()?;
        self.groups.cpus(&online, &self.views.rules.cpu)
    }

    /// Returns the time of its processors; `None` if that is the whole machine's.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn account(&self, cpus: &CpuView) -> Result<Option<CpuAccount>, ReadError> {
        let Some(used) = self.time_used()? else { return Ok(None) };
        let mut meter = self.container.meter().lock();
        Ok(Some(meter.read(self.container.age(), cpus.capacity, used)))
    }

    fn time_used(&self) -> Result<Option<CpuTimes>, ReadError> {
        match &self.groups.time {
            Some(group) => group.used().map(Some),
            None => Ok(self.container.processes(self.host().processes())?.map(|sum| sum.times)),
        }
    }

    /// Returns the nanoseconds since its start; `None` if it is the machine itself.
    pub fn age(&self) -> Option<u64> {
        let is_machine = self.container.init().is_none() && self.groups.tasks.is_none();
        (!is_machine).then(|| self.container.age())
    }

    /// Returns the boot time by which its processes' start times are to be read, in seconds since
    /// the epoch.
    ///
    /// # Errors
    /// /proc/stat can't be read.
    pub fn btime(&self) -> Result<u64, ReadError> {
        let later = self.container.clock_offset().div_euclid(1_000_000_000);
        let btime = i128::from(self.host().btime()?) - later;
        Ok(u64::try_from(btime).unwrap_or(0))
    }

    /// Returns its use of devices; `None` if it is the machine itself.
    ///
    /// # Errors
    /// [`ReadError::NotCounted`].
    pub fn io(&self) -> Result<Option<IoTable>, ReadError> {
        match &self.groups.io {
            Some(group) => group.counts().map(Some),
            None if self.age().is_none() => Ok(None),
            None => Err(ReadError::NotCounted("its use of devices")),
        }
    }

    /// Returns what the kernel has allocated for it, by kind; `None` if it is the machine itself.
    ///
    /// # Errors
    /// A file can't be read, or no hierarchy has the controller.
    pub fn slabs(&self) -> Result<Option<String>, ReadError> {
        match &self.groups.memory {
            Some(group) if group.is_whole_machine()? => Ok(None),
            Some(group) if self.groups.memory_is_own => group.slabs().map(Some),
            Some(_) => Ok(Some(String::new())),
            None => self.without(Controller::Memory),
        }
    }

    /// Returns the text of its pressure; `None` if it is the machine itself.
    ///
    /// # Errors
    /// [`ReadError::NotCounted`].
    pub fn pressure(&self, resource: Resource) -> Result<Option<String>, ReadError> {
        let group = self.groups.pressure.as_ref();
        match group.map(|g| g.text(resource)).transpose()?.flatten() {
            Some(text) => Ok(Some(text)),
            None if self.age().is_none() => Ok(None),
            None => Err(ReadError::NotCounted("its pressure")),
        }
    }

    /// Returns its load; `None` if that is the whole machine's.
    pub fn load(&self) -> Option<LoadView> {
        let container = &self.container;
        if self.groups.tasks.is_none() && container.namespace().is_none() {
            return None;
        }
        if !container.load().lock().is_sampled() {
            load::sample(container, &self.groups, self.host().processes(), SAMPLE_BUDGET);
        }
        Some(container.load().lock().view())
    }

    /// A container is told the machine's figures only where the machine is its limit, never because
    /// a hierarchy is missing.
    fn without<T>(&self, controller: Controller) -> Result<Option<T>, ReadError> {
        Err(ReadError::NoController(controller.name()))
    }
}
