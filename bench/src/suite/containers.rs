//! Readers of /proc in containers: each is process 1 of its own pid namespace, in a cgroup with limits.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Memory that each container may use.
const MEMORY: &str = "67108864";

/// Containers that live until they are dropped.
#[derive(Debug)]
pub(super) struct Containers {
    all: Vec<Container>,
    cgroups: Vec<PathBuf>,
}

#[derive(Debug)]
struct Container {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Containers {
    /// Returns none; `name` is that of their cgroups.
    pub(super) fn new(name: &str) -> io::Result<Containers> {
        let mut cgroups = Vec::new();
        for root in hierarchies(&LIMITS) {
            let path = root.join(name);
            fs::create_dir_all(&path)?;
            cgroups.push(path);
        }
        match cgroups.is_empty() {
            true => Err(io::Error::other("no cgroup hierarchy is mounted")),
            false => Ok(Containers { all: Vec::new(), cgroups }),
        }
    }

    /// Starts more of them, until there are `count`.
    pub(super) fn grow(&mut self, count: u32) -> io::Result<()> {
        while self.all.len() < count as usize {
            let n = self.all.len();
            self.all.push(self.start(n)?);
        }
        Ok(())
    }

    fn start(&self, n: usize) -> io::Result<Container> {
        // This program, by a name that means the same in unshare's process.
        let program = format!("/proc/{}/exe", std::process::id());
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", &program, "reader"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::other(format!("unshare: {e}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes to a container"));
        };
        let mut container = Container { child, input, output: BufReader::new(output) };
        // It says that it is there; its process is the child of unshare's.
        container.answer()?;
        let pid = container.child.id();
        let inside = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        for root in &self.cgroups {
            let path = root.join(n.to_string());
            fs::create_dir_all(&path)?;
            for limit in ["memory.limit_in_bytes", "memory.max"] {
                if path.join(limit).exists() {
                    fs::write(path.join(limit), MEMORY)?;
                }
            }
            fs::write(path.join("cgroup.procs"), inside.trim())?;
        }
        Ok(container)
    }

    /// Has `readers` containers read a file `times` times, all at once; returns the times of single
    /// reads.
    pub(super) fn read(
        &mut self,
        path: &Path,
        readers: usize,
        times: u32,
    ) -> io::Result<Vec<Duration>> {
        let some = self.all.len().min(readers);
        // The last ones: theirs are the cgroups that were made last.
        let first = self.all.len() - some;
        for container in &mut self.all[first..] {
            writeln!(container.input, "{times} {}", path.display())?;
        }
        let mut all = Vec::new();
        for container in &mut self.all[first..] {
            let answer = container.answer()?;
            let nanos: Result<Vec<u64>, String> =
                serde_json::from_str(&answer).map_err(io::Error::other)?;
            all.extend(nanos.map_err(io::Error::other)?.into_iter().map(Duration::from_nanos));
        }
        Ok(all)
    }
}

impl Container {
    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::Error::other("a container has ended")),
            _ => Ok(line),
        }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for container in &mut self.all {
            // unshare kills its child when it dies.
            if let Err(e) = container.child.kill().and_then(|()| container.child.wait()) {
                eprintln!("bench: end a container: {e}");
            }
        }
        for root in &self.cgroups {
            remove(root);
        }
    }
}

/// Controllers that the shims look at.
const LIMITS: [&str; 4] = ["memory", "cpu", "cpuacct", "blkio"];

/// Returns where cgroups can be made: version 2, and of version 1 those with one of the controllers; all
/// where none is named.
fn hierarchies(controllers: &[&str]) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let wanted = |kind: &str, options: &str| match kind {
        "cgroup2" => true,
        "cgroup" if controllers.is_empty() => true,
        "cgroup" => options.split(',').any(|o| controllers.contains(&o)),
        _ => false,
    };
    let mounts = text.lines().filter_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            [_, point, kind, options, ..] if wanted(kind, options) => Some(PathBuf::from(point)),
            _ => None,
        }
    });
    let mut all: Vec<_> = mounts.collect();
    all.sort();
    all.dedup();
    all
}

/// Removes the cgroups of this name that a worker has left, killed or not.
pub(crate) fn remove_left(name: &str) {
    for root in hierarchies(&[]) {
        let path = root.join(name);
        if path.exists() {
            remove(&path);
        }
    }
}

fn remove(root: &Path) {
    let inside = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    inside.filter(|p| p.is_dir()).for_each(|path| remove(&path));
    let start = Instant::now();
    // A cgroup stays busy until the last of its processes is reaped.
    while let Err(e) = fs::remove_dir(root) {
        if start.elapsed() > Duration::from_secs(5) {
            eprintln!("bench: remove {}: {e}", root.display());
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What runs inside: reads files as it is told on standard input, and says how long that took.
pub(crate) fn reader() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: reader: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut say = |text: &str| {
        writeln!(out, "{text}")?;
        out.flush()
    };
    say("here")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (times, path) = line.split_once(' ').unwrap_or((&line, ""));
        let times = times.parse::<u32>().map_err(io::Error::other)?;
        let done = timed(Path::new(path), times).map_err(|e| format!("{path}: {e}"));
        say(&serde_json::to_string(&done)?)?;
    }
    Ok(())
}

fn timed(path: &Path, times: u32) -> io::Result<Vec<u64>> {
    let mut block = vec![0; 64 << 10];
    let mut all = Vec::with_capacity(times as usize);
    for _ in 0..times {
        let start = Instant::now();
        let length = super::tree::read(path, &mut block)?;
        all.push(start.elapsed().as_nanos() as u64);
        if length == 0 {
            return Err(io::Error::other("it is empty"));
        }
    }
    Ok(all)
}
