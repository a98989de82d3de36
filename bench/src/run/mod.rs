//! A run: rounds of all work on all subjects, interleaved.

mod costs;
mod environment;
mod guard;
mod link;
mod progress;
mod rounds;
mod stage;
mod stop;

pub(crate) use link::Identity;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::Uid;

use crate::bed::protocol::{Ids, Job, Mode};
use crate::bed::scale::Scale;
use crate::record::{Absent, Record, SubjectInfo};
use crate::report::Log;
use crate::subject::find::Found;
use crate::subject::{Family, Subject};
use crate::suite::Block;
use link::{Ended, turn};
use stage::Stage;
use stop::Stop;

/// What shall be done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Subjects that were found, and those that weren't.
    pub(crate) subjects: Vec<Found>,
    /// Work.
    pub(crate) blocks: Vec<Block>,
    /// How large.
    pub(crate) scale: Scale,
    /// How often.
    pub(crate) rounds: u32,
    /// After this long, no round begins that wouldn't end in time.
    pub(crate) budget: Option<Duration>,
    /// Where layers and mount points are.
    pub(crate) dir: PathBuf,
    /// Where results go.
    pub(crate) out: PathBuf,
    /// Of all random choices.
    pub(crate) seed: u64,
    /// Who is meant by `@user`.
    pub(crate) user: Option<Identity>,
    /// Subject that others are compared with, instead of the usual one.
    pub(crate) peer: Option<String>,
    /// Whether messages and system calls are counted.
    pub(crate) costs: bool,
    /// Whether work that begins cold finds nothing in memory.
    pub(crate) drop_caches: bool,
}

/// How long one turn may take before it counts as hung, by the size of the work.
fn limit(scale: &Scale) -> Duration {
    Duration::from_secs(if scale.name == "full" { 1800 } else { 180 })
}

/// A run that goes on.
struct Run {
    plan: Plan,
    stage: Stage,
    stop: Stop,
    log: Log,
    subjects: Vec<Subject>,
    began: Instant,
}

/// Measures as planned, writes reports to the plan's directory, and prints the table.
///
/// Returns whether it came to its end: false if a signal asked for another.
///
/// # Errors
/// For people: nothing can be measured here.
pub(crate) fn run(plan: Plan) -> Result<bool, String> {
    fn failed(what: &str) -> impl Fn(io::Error) -> String + '_ {
        move |e| format!("{what}: {e}")
    }
    let stop = Stop::watch().map_err(failed("signals"))?;
    isolate().map_err(failed("mount namespace"))?;
    let stage = Stage::new(&plan.dir).map_err(failed(&plan.dir.to_string_lossy()))?;
    fs::create_dir_all(&plan.out).map_err(failed(&plan.out.to_string_lossy()))?;
    let mut log = Log::create(&plan.out)?;
    let mut environment = environment::describe(stage.path(), &plan.scale, plan.rounds, plan.seed);
    environment.peer = plan.peer.clone();
    log.add(Record::Environment(environment))?;
    let mut run = Run { plan, stage, stop, log, subjects: Vec::new(), began: Instant::now() };
    let done = run.all();
    let out = run.plan.out.clone();
    crate::suite::containers::remove_left(&run.stage.name());
    drop(run.stage);
    let whole = done.map_err(|e| e.to_string())?;
    crate::report::write(&out, &run.log.records)?;
    Ok(whole)
}

/// Gives this process mounts of its own and makes it the parent of what workers leave.
fn isolate() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    if Uid::effective().is_root() {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    }
    Ok(())
}

impl Run {
    fn all(&mut self) -> io::Result<bool> {
        if !self.prepare()? || !self.rounds()? {
            return Ok(false);
        }
        if self.plan.costs { self.costs() } else { Ok(true) }
    }

    /// Finds out who can be measured, and makes what the work starts from. Returns whether to go on.
    fn prepare(&mut self) -> io::Result<bool> {
        let found = std::mem::take(&mut self.plan.subjects);
        for found in found {
            match found {
                Ok(s) if !self.plan.blocks.iter().any(|b| b.suits(&s)) => {}
                Ok(subject) => match self.single(&subject, Mode::Probe)? {
                    Ended::Done(_) => self.accept(subject)?,
                    Ended::Failed(why) => self.reject(subject.name, why)?,
                    Ended::Stopped => return Ok(false),
                },
                Err(absent) => self.reject(absent.name, absent.why)?,
            }
        }
        let blocks: Vec<_> =
            self.plan.blocks.iter().map(|b| format!("{}/{}", b.suite, b.name)).collect();
        for rootless in [false, true] {
            let is = |s: &&Subject| self.identity(s).is_some() == rootless;
            let first = self.subjects.iter().find(is).cloned();
            let Some(first) = first else { continue };
            match self.single(&first, Mode::Fixtures(blocks.clone()))? {
                Ended::Done(_) => {}
                Ended::Failed(why) => {
                    return Err(io::Error::other(format!("lay out files: {why}")));
                }
                Ended::Stopped => return Ok(false),
            }
        }
        Ok(true)
    }

    fn accept(&mut self, subject: Subject) -> io::Result<()> {
        let info = SubjectInfo {
            name: subject.name.clone(),
            family: subject.kind.family().name().to_owned(),
            version: subject.version.clone(),
            how: subject.how(),
        };
        self.log.add(Record::Subject(info)).map_err(io::Error::other)?;
        self.subjects.push(subject);
        Ok(())
    }

    fn reject(&mut self, name: String, why: String) -> io::Result<()> {
        crate::worker::remark(&format!("{name} is not measured: {why}"));
        self.log.add(Record::Absent(Absent { name, why })).map_err(io::Error::other)
    }

    fn single(&mut self, subject: &Subject, mode: Mode) -> io::Result<Ended> {
        let job = self.job(subject, None, mode)?;
        let (_, ended) =
            turn(&job, self.identity(subject), limit(&self.plan.scale), None, &mut self.stop)?;
        Ok(ended)
    }

    /// Returns who works on a subject, if it isn't whoever runs this. Engines make namespaces for a
    /// user themselves; what they leave can only be removed by root.
    fn identity(&self, subject: &Subject) -> Option<Identity> {
        let by_worker = subject.rootless && subject.kind.family() != Family::Engine;
        if by_worker { self.plan.user } else { None }
    }

    fn job(&self, subject: &Subject, block: Option<&Block>, mode: Mode) -> io::Result<Job> {
        Ok(Job {
            subject: subject.clone(),
            suite: block.map_or("", |b| b.suite).to_owned(),
            block: block.map_or("", |b| b.name).to_owned(),
            mode,
            scale: self.plan.scale.clone(),
            home: self.stage.home(self.identity(subject))?,
            seed: self.plan.seed,
            drop_caches: self.plan.drop_caches,
            user: self
                .plan
                .user
                .filter(|_| {
                    subject.rootless
                        && self.identity(subject).is_none()
                        && Uid::effective().is_root()
                })
                .map(|who| Ids { uid: who.uid.as_raw(), gid: who.gid.as_raw() }),
        })
    }
}
