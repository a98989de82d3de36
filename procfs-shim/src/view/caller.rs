//! Who asks: from a process number to its container.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::multiple::RefMulti;

use super::container::{Container, Init};
use super::notebook::Notebook;
use crate::cgroup::{Hierarchy, Membership};
use crate::error::ReadError;
use crate::host::Moment;
use crate::host::held::HeldFile;
use crate::host::process::{NamespaceId, Pid, Process, Processes, StartTime};

/// How many readers are remembered.
const MOST_READERS: usize = 1024;

/// How many ancestors are looked at in search of an init.
const MOST_ANCESTORS: usize = 64;

/// A reader seen before. Its cgroup file, held open, is the proof that the number still means the
/// same process: reading it fails with `ESRCH` once that is gone.
#[derive(Debug)]
struct Reader {
    cgroup: HeldFile,
    text: String,
    container: Arc<Container>,
    /// It is that container's init.
    is_init: bool,
    /// When it was proven last.
    proven: AtomicU64,
}

impl Reader {
    /// Whether the number still means this process, and it is still in the same cgroups. A proof is
    /// good for a few milliseconds: the kernel gives numbers in turn, and can't come round to one in
    /// that time.
    fn is_same(&self, now: Moment) -> bool {
        if now.is_soon_after(Moment(self.proven.load(Ordering::Relaxed))) {
            return true;
        }
        let is_same = self.cgroup.text().as_ref() == Ok(&self.text);
        if is_same {
            self.proven.store(now.0, Ordering::Relaxed);
            if self.is_init {
                self.container.note_membership(&self.text, now);
            }
        }
        is_same
    }
}

/// What a container is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Init(Pid, StartTime),
    Cgroup(String),
}

impl Key {
    /// The key of the container with this init.
    pub(super) fn of(init: &Init) -> Key {
        let (pid, start) = init.key();
        Key::Init(pid, start)
    }

    /// The container's name in a notebook.
    pub(super) fn name(&self) -> String {
        match self {
            Key::Init(pid, start) => format!("{} {}", pid.0, start.0),
            Key::Cgroup(text) => text.clone(),
        }
    }
}

/// Readers and containers seen so far.
#[derive(Debug)]
pub struct Callers {
    own: Process,
    own_namespace: Option<NamespaceId>,
    /// What a worker before this one knew of the containers.
    notebook: Option<Notebook>,
    readers: DashMap<Pid, Arc<Reader>>,
    containers: DashMap<Key, Arc<Container>>,
}

impl Callers {
    /// Knows nobody yet.
    ///
    /// # Errors
    /// /proc is another pid namespace's.
    pub fn new(processes: &Processes, notebook: Option<Notebook>) -> Result<Callers, ReadError> {
        let own = processes.own()?;
        let own_namespace = own.namespace("pid").ok();
        let (readers, containers) = (DashMap::new(), DashMap::new());
        Ok(Callers { own, own_namespace, notebook, readers, containers })
    }

    /// Returns the container of a reader that was seen before and is the same yet.
    pub fn known(&self, pid: Pid, now: Moment) -> Option<Arc<Container>> {
        let reader = self.readers.get(&pid).map(|r| r.clone())?;
        reader.is_same(now).then(|| reader.container.clone())
    }

    /// Finds the container of a reader that isn't known.
    ///
    /// # Errors
    /// [`ReadError::UnknownReader`]: it lives outside our pid namespace.
    pub fn find(
        &self,
        pid: Pid,
        now: Moment,
        processes: &Processes,
        tree: &Hierarchy,
    ) -> Result<Arc<Container>, ReadError> {
        if pid.0 == 0 {
            return Err(ReadError::UnknownReader);
        }
        let process = processes.get(pid)?;
        let cgroup = process.hold("cgroup")?;
        let text = cgroup.text()?;
        let container = self.resolve(&process, &text, processes, tree)?;
        if self.readers.len() >= MOST_READERS {
            self.readers.clear();
        }
        let proven = AtomicU64::new(now.0);
        let is_init = container.init().is_some_and(|init| init.key().0 == pid);
        let reader = Reader { cgroup, text, container: container.clone(), is_init, proven };
        self.readers.insert(pid, Arc::new(reader));
        Ok(container)
    }

    /// Returns how many containers and readers are known.
    pub fn count(&self) -> (usize, usize) {
        (self.containers.len(), self.readers.len())
    }

    /// Returns each container seen so far.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.iter().map(|c| c.value().clone()).collect()
    }

    /// Finds containers that nobody has read from yet, so that their load is known from their start,
    /// and forgets those that are gone.
    pub fn look_around(&self, processes: &Processes, tree: &Hierarchy) {
        self.forget();
        let mut known: Vec<_> =
            self.containers.iter().filter_map(|c| c.value().namespace()).collect();
        known.extend(self.own_namespace);
        for pid in processes.list().unwrap_or_default() {
            let Some(namespace) = processes.pid_namespace(pid) else { continue };
            if known.contains(&namespace) {
                continue;
            }
            known.push(namespace);
            let found = processes.get(pid).and_then(|p| self.init_of(&p, processes));
            let container = found.and_then(|init| self.by_init(&init, tree));
            if let Err(e) = container {
                log::debug!("container of process {}: {e}", pid.0);
            }
        }
    }

    /// Forgets readers and containers that are gone. They are looked at outside of the tables' locks.
    fn forget(&self) {
        let now = Moment::now();
        let readers: Vec<_> = self.readers.iter().map(|r| (*r.key(), r.value().clone())).collect();
        for (pid, reader) in readers {
            if !reader.is_same(now) {
                self.readers.remove_if(&pid, |_, now| Arc::ptr_eq(now, &reader));
            }
        }
        let containers: Vec<_> =
            self.containers.iter().map(|c| (c.key().clone(), c.value().clone())).collect();
        for (key, container) in containers {
            container.texts().tidy(now);
            if !container.is_alive() {
                self.containers.remove_if(&key, |_, now| Arc::ptr_eq(now, &container));
            }
        }
    }

    fn resolve(
        &self,
        process: &Process,
        text: &str,
        processes: &Processes,
        tree: &Hierarchy,
    ) -> Result<Arc<Container>, ReadError> {
        if self.is_in_our_namespace(process)? {
            return self.by_cgroup(text, processes, tree);
        }
        let init = self.init_of(process, processes)?;
        let container = self.by_init(&init, tree)?;
        if is_elsewhere(process, text, &init, &container)? {
            return self.by_cgroup(text, processes, tree);
        }
        Ok(container)
    }

    /// Whether a process shares the daemon's pid namespace. Where we may not look at the namespace,
    /// the number of namespaces that it is in tells.
    fn is_in_our_namespace(&self, process: &Process) -> Result<bool, ReadError> {
        match (process.namespace("pid"), self.own_namespace) {
            (Ok(theirs), Some(ours)) => Ok(theirs == ours),
            _ => Ok(process.status()?.ns_pids.len() <= self.own.status()?.ns_pids.len()),
        }
    }

    /// Returns the init of a process's pid namespace.
    fn init_of(&self, process: &Process, all: &Processes) -> Result<Process, ReadError> {
        match process.init_by_kernel() {
            Ok(pid) => all.get(pid),
            Err(_) => init_by_parents(process, all).or_else(|e| init_by_search(process, all, e)),
        }
    }

    fn by_init(&self, init: &Process, tree: &Hierarchy) -> Result<Arc<Container>, ReadError> {
        let init = Init::new(init, &self.own)?;
        let key = Key::of(&init);
        if let Some(known) = self.containers.get(&key) {
            return Ok(known.clone());
        }
        Ok(self.file(key, Container::of_init(init, tree, None)?))
    }

    fn by_cgroup(
        &self,
        text: &str,
        processes: &Processes,
        tree: &Hierarchy,
    ) -> Result<Arc<Container>, ReadError> {
        let key = Key::Cgroup(text.to_owned());
        if let Some(known) = self.containers.get(&key) {
            return Ok(known.clone());
        }
        Ok(self.file(key, Container::of_cgroup(text.to_owned(), tree, processes)?))
    }

    /// Files a container that is new here. Of two readers that come first at once, both take what one
    /// of them has filed.
    fn file(&self, key: Key, new: Container) -> Arc<Container> {
        let name = key.name();
        let filed = self.containers.entry(key).or_insert_with(|| {
            if let Some(note) = self.notebook.as_ref().and_then(|n| n.take(&name)) {
                new.resume(&note);
            }
            Arc::new(new)
        });
        filed.clone()
    }

    /// Writes down for a successor of this process what is known of the containers.
    pub fn note(&self) {
        let Some(notebook) = &self.notebook else { return };
        let note = |c: RefMulti<Key, Arc<Container>>| Some((c.key().name(), c.value().note()?));
        let notes = self.containers.iter().filter_map(note).collect();
        notebook.note(notes);
    }
}

/// Whether a process of a shared pid namespace is another container than the namespace's init: it
/// is in a cgroup beside that of the init and in another mount namespace. A process that came in
/// from outside (`nsenter`, `docker exec`) has its cgroup elsewhere too, but the init's mounts.
fn is_elsewhere(
    process: &Process,
    text: &str,
    init: &Process,
    container: &Container,
) -> Result<bool, ReadError> {
    let theirs = Membership::parse(text)?;
    if theirs.is_within(&Membership::parse(&container.membership())?.of_container()) {
        return Ok(false);
    }
    Ok(matches!((process.namespace("mnt"), init.namespace("mnt")), (Ok(a), Ok(b)) if a != b))
}

/// Climbs from a process to the first of its pid namespace, as orphans are given to it. Fails for a
/// process that was put into the namespace from outside.
fn init_by_parents(process: &Process, all: &Processes) -> Result<Process, ReadError> {
    let mut status = process.status()?;
    let depth = status.ns_pids.len();
    let mut pid = process.pid();
    for _ in 0..MOST_ANCESTORS {
        if status.ns_pids.len() != depth {
            break;
        }
        if status.ns_pids.last() == Some(&1) {
            return all.get(pid);
        }
        pid = Pid(status.ppid);
        status = all.get(pid)?.status()?;
    }
    Err(ReadError::UnknownReader)
}

/// Searches all processes for the first one of this one's pid namespace.
fn init_by_search(process: &Process, all: &Processes, e: ReadError) -> Result<Process, ReadError> {
    let Ok(namespace) = process.namespace("pid") else { return Err(e) };
    let is_init = |p: &Process| p.status().is_ok_and(|s| s.ns_pids.last() == Some(&1));
    all.in_namespace(namespace)?.into_iter().find(is_init).ok_or(e)
}
