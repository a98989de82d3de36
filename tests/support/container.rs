//! A container of real cgroups and namespaces, with a view of /proc for each server of its files.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::cgroups::{Cgroups, Limits};

/// Which clock a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's, as in containers of podman and docker.
    Machine,
    /// One that starts with the container, as in those of `runner`.
    Own,
}

/// A process with a mount namespace in which files of a server cover the kernel's.
#[derive(Debug)]
pub struct Window {
    child: Option<Child>,
    pid: i32,
}

/// A container whose init is a shell that starts what it is told. Dropping it ends all of it.
#[derive(Debug)]
pub struct Container {
    child: Child,
    said: BufReader<ChildStdout>,
    clock: Clock,
    init: i32,
    // Dropped last: by then nothing runs in them.
    groups: Cgroups,
}

impl Container {
    /// Starts one; returns when its init runs. Its /proc is the kernel's.
    pub fn start(limits: &Limits, clock: Clock) -> Container {
        let groups = Cgroups::new(limits);
        let offset = match clock {
            Clock::Machine => String::new(),
            Clock::Own => {
                let up = std::fs::read_to_string("/proc/uptime").expect("the uptime");
                let seconds = up.split('.').next().expect("seconds").to_owned();
                format!("-T --boottime -{seconds} ")
            }
        };
        let script = format!(
            "{}exec unshare -m --propagation slave -p -f {offset}--kill-child --mount-proc \
             sh -c 'echo up; while read -r line; do eval \"$line\"; done'",
            groups.enter()
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a container");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        expect_line(&mut said, "up");
        let init = only_child(child.id());
        Container { child, said, clock, init, groups }
    }

    /// Its cgroups.
    pub fn groups(&self) -> &Cgroups {
        &self.groups
    }

    /// The number of its init, as the machine has it.
    pub fn init(&self) -> i32 {
        self.init
    }

    /// Has a script run inside, which says `ready` on a line when its work is done or has begun.
    /// It ends with the container.
    pub fn load(&mut self, script: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "( {script} ) </dev/null &").expect("tell the init what to start");
        expect_line(&mut self.said, "ready");
    }

    /// Returns a window on the container with the kernel's files.
    pub fn uncovered(&self) -> Window {
        Window { child: None, pid: self.init }
    }

    /// Returns a window on the container in which the files of the server mounted at `mount` cover
    /// the kernel's; the program `load` lays them there.
    pub fn covered(&self, load: &Path, mount: &Path) -> Window {
        let mut nsenter = self.nsenter(self.init);
        let mut child = nsenter
            .args(["unshare", "-m", "--propagation", "slave"])
            .arg(load)
            .arg("cover")
            .arg(mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("enter the container");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        expect_line(&mut said, "up");
        let pid = only_child(child.id());
        Window { child: Some(child), pid }
    }

    /// Runs a script behind a window, in the container's cgroups, and returns what it wrote.
    ///
    /// # Errors
    /// It failed; what it wrote to either stream.
    pub fn look(&self, window: &Window, script: &str) -> Result<String, String> {
        let mut nsenter = self.nsenter(window.pid);
        nsenter.args(["sh", "-c", script]);
        let enter = format!("{}exec \"$@\"", self.groups.enter());
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh"]).arg(nsenter.get_program()).args(nsenter.get_args());
        let out = output(command);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() {
            return Ok(said);
        }
        Err(format!("{said}{}", String::from_utf8_lossy(&out.stderr)))
    }

    fn nsenter(&self, pid: i32) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-m", "-p"]);
        if self.clock == Clock::Own {
            command.arg("-T");
        }
        command
    }
}

fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).env("TERM", "dumb").env("LC_ALL", "C").env("COLUMNS", "200");
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn expect_line(from: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    from.read_line(&mut line).expect("read what a container says");
    assert_eq!(line.trim_end(), wanted, "a container says what is the case");
}

fn only_child(pid: u32) -> i32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(&path).expect("the children");
    children.split_ascii_whitespace().next().expect("one child").parse().expect("a pid")
}

fn end(child: &mut Child) {
    for done in [child.kill(), child.wait().map(drop)] {
        if let Err(e) = done {
            eprintln!("end of a container: {e}");
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Its standard input ends, and so does it.
            drop(child.stdin.take());
            if let Err(e) = child.wait() {
                eprintln!("end of a window: {e}");
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // `unshare --kill-child` takes the init and all of its namespace along.
        end(&mut self.child);
    }
}
