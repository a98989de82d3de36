//! The child process that works on one subject, with mounts of its own.

pub(crate) mod namespace;

use std::io::{self, Write};
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::bed::Bed;
use crate::bed::protocol::{Job, Link, Mode, Said};
use crate::record::Spent;
use crate::suite;

/// Does one job, which stands on the first line of standard input.
pub(crate) fn run() -> ExitCode {
    let mut link = Link::standard();
    match work(&mut link) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Whoever started this reads it; if that can't be told, nobody is there.
            let told = link.say(&Said::Failed(e.to_string()));
            if told.is_err() {
                eprintln!("bench: worker: {e}");
            }
            ExitCode::FAILURE
        }
    }
}

fn work(link: &mut Link) -> io::Result<()> {
    let job: Job = link.job()?;
    namespace::enter(&job, link)?;
    // Those that the run waits for; what is started here shall have them as usual.
    let mut inherited = SigSet::empty();
    inherited.add(Signal::SIGINT);
    inherited.add(Signal::SIGHUP);
    inherited.thread_unblock()?;
    prctl::set_child_subreaper(true)?;
    // After the change of credentials, which clears it.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    end_on_term()?;
    let mut spent = Spent::default();
    match &job.mode {
        Mode::Fixtures(blocks) => suite::fixture::make(&job, blocks)?,
        Mode::Probe => suite::probe(&mut Bed::new(&job, link))?,
        Mode::Time | Mode::Count | Mode::Watch => {
            namespace::protect(&job)?;
            let block = suite::find(&job.suite, &job.block)
                .ok_or_else(|| io::Error::other(format!("no block {}/{}", job.suite, job.block)))?;
            let mut bed = Bed::new(&job, link);
            (block.run)(&mut bed)?;
            bed.end()?;
            spent = bed.spent;
        }
    }
    link.say(&Said::Done(spent))
}

/// From now on SIGTERM ends this process, and first all that it has started.
fn end_on_term() -> io::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    std::thread::Builder::new().name("end".into()).spawn(move || {
        if set.wait().is_ok() {
            end_children();
            std::process::exit(1);
        }
    })?;
    Ok(())
}

/// Kills all descendants; those of a killed one become children of this process, a subreaper.
pub(crate) fn end_children() {
    let mut tries = 0;
    loop {
        let children = children();
        if children.is_empty() || tries > 100 {
            return;
        }
        for pid in children {
            if kill(pid, Signal::SIGKILL).is_ok() && waitpid(pid, None).is_err() {
                // Another thread has waited for it.
                tries += 1;
            }
        }
        tries += 1;
    }
}

fn children() -> Vec<Pid> {
    let mut all = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|p| p.parse().ok()).map(Pid::from_raw));
    }
    all
}

/// Says something to people; standard output belongs to the protocol.
pub(crate) fn remark(text: &str) {
    let mut err = io::stderr().lock();
    // Nobody can be told that nobody can be told.
    writeln!(err, "bench: {text}").unwrap_or_default();
}
