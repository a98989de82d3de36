//! strace at a daemon: to count its system calls, or to make one go wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::process;

/// strace, attached to a daemon.
#[derive(Debug)]
pub(crate) struct Tracer(Child);

impl Tracer {
    /// Makes the `n`th `call` of each thread of `daemon` go wrong as `what` says.
    pub(crate) fn inject(daemon: i32, call: &str, what: &str, n: usize) -> Tracer {
        let inject = format!("inject={call}:{what}:when={n}");
        Tracer::attach(daemon, Path::new("/dev/null"), &format!("trace={call}"), Some(&inject))
    }

    /// Writes a line to `log` for each of the calls that `daemon` makes until this is dropped.
    pub(crate) fn record(daemon: i32, calls: &str, log: &Path) -> Tracer {
        Tracer::attach(daemon, log, &format!("trace={calls}"), None)
    }

    fn attach(daemon: i32, log: &Path, trace: &str, inject: Option<&str>) -> Tracer {
        let mut child = Command::new("strace")
            .args(["-f", "-qq", "-e", trace])
            .args(inject.iter().flat_map(|i| ["-e", i]))
            .arg("-o")
            .arg(log)
            .args(["-p", &daemon.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start strace");
        let traced = format!("TracerPid:\t{}", child.id());
        // Attached is who has a tracer; all threads are.
        while !all_threads(daemon, &traced) {
            if let Some(status) = child.try_wait().expect("wait for strace") {
                panic!("strace can't attach: {status}");
            }
            std::thread::yield_now();
        }
        Tracer(child)
    }
}

/// Whether the status of each thread of a process has the line.
fn all_threads(pid: i32, line: &str) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let Ok(file) = std::fs::File::open(task.path().join("status")) else { return false };
        BufReader::new(file).lines().map_while(Result::ok).any(|l| l == line)
    })
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Not asked to end but killed: it may wait for ever for threads of a daemon that it has
        // killed, and what it traces goes on without it.
        if let Err(e) = self.0.kill() {
            eprintln!("end strace: {e}");
        }
        process::wait(&mut self.0);
    }
}
