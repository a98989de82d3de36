//! Looks at figures through servers, and says whether they are right.

use std::collections::BTreeMap;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::{Around, Expected, Group, Look, Needs, Row, now};
use crate::cgroups::{Version, version};
use crate::container::{Container, Window};
use crate::process::program;

/// How often a figure is looked at before it counts as wrong: on a busy machine, a tool's second of
/// its own may be unlike the time around it.
const TRIES: usize = 4;

/// What the machine has.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program `load`.
    pub load: PathBuf,
    /// A file or device to read and write.
    pub disk: Option<Disk>,
    /// Processors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of swap.
    pub swap: u64,
}

/// What to read and write.
#[derive(Clone, Debug)]
pub struct Disk {
    /// A file or the device itself.
    pub path: PathBuf,
    /// The device's name in diskstats.
    pub name: String,
    /// Its numbers, as `MAJOR:MINOR`.
    pub device: String,
}

impl Machine {
    /// Looks at this one; the disk is what holds the directory `scratch`.
    pub fn here(load: &Path, disk: Option<Disk>) -> Machine {
        let meminfo = std::fs::read_to_string("/proc/meminfo").expect("the machine's meminfo");
        let bytes = |name: &str| -> u64 {
            let line = meminfo.lines().find_map(|l| l.strip_prefix(name));
            let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
            kib.expect("a figure of meminfo") * 1024
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (memory, swap) = (bytes("MemTotal:"), bytes("SwapTotal:"));
        Machine { load: load.to_owned(), disk, processors, memory, swap }
    }

    /// Whether a load is possible here.
    pub fn has(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::Disk => self.disk.is_some(),
            Needs::Swap => self.swap > 0,
            Needs::V2 => version() == Ok(Version::V2),
            Needs::Processors => self.processors >= 2,
        }
    }

    /// Fills in the names of things.
    fn say(&self, script: &str) -> String {
        let mut text = script.replace("{load}", &self.load.to_string_lossy());
        if let Some(disk) = &self.disk {
            text = text.replace("{disk}", &disk.path.to_string_lossy());
            text = text.replace("{name}", &disk.name);
        }
        text
    }
}

impl Disk {
    /// Finds the block device below a file; `None` where there is none, as below a tmpfs.
    pub fn of_file(path: &Path) -> Option<Disk> {
        let number = std::fs::metadata(path).ok()?.st_dev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        let mut dir = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        if dir.join("partition").exists() {
            // Only whole disks are counted.
            dir.pop();
        }
        let device = std::fs::read_to_string(dir.join("dev")).ok()?.trim().to_owned();
        let name = dir.file_name()?.to_string_lossy().into_owned();
        Some(Disk { path: path.to_owned(), name, device })
    }
}

/// A process of the machine that ends with this.
struct Outside(Child);

impl Drop for Outside {
    fn drop(&mut self) {
        for done in [self.0.kill(), self.0.wait().map(drop)] {
            if let Err(e) = done {
                eprintln!("end of a load: {e}");
            }
        }
    }
}

/// What a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The words.
    pub text: String,
    /// Whether they are right.
    pub right: bool,
    /// What would have been.
    pub expected: String,
}

/// One row as measured: the kernel's answer, then one of each server; `None` where the tool is not
/// installed.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The row.
    pub row: Row,
    /// Answers.
    pub shown: Vec<Option<Shown>>,
}

/// A column of the page.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// The kernel's own files, which aren't judged.
    Kernel,
    /// The shim, mounted there.
    Ours(&'a Path),
    /// Another server, mounted there.
    Peer(&'a Path),
    /// Nothing is looked at.
    Empty,
}

/// Puts a load into a container and looks at each figure through each column.
pub fn group(machine: &Machine, columns: &[Column<'_>; 3], group: &Group) -> Vec<Measured> {
    let mut limits = group.limits.clone();
    limits.device = machine.disk.as_ref().map(|d| d.device.clone());
    let outside = group.outside.map(|args| {
        let mut load = Command::new(&machine.load);
        let load = load.args(args.split(' ')).stdout(Stdio::null()).stdin(Stdio::null());
        Outside(load.spawn().expect("start a load"))
    });
    // The start of a process is counted in ticks, from before to after.
    let born = now();
    let mut container = Container::start(&limits, group.clock);
    let windows = columns.map(|column| match column {
        Column::Kernel => Some(container.uncovered()),
        Column::Ours(path) | Column::Peer(path) => Some(container.covered(&machine.load, path)),
        Column::Empty => None,
    });
    let loaded = now();
    for script in &group.scripts {
        container.load(&machine.say(script));
    }
    let container = &container;
    let ready = now();
    let scene = Scene { machine, container, group, columns, windows, born, loaded, ready };
    let measured = scene.measure();
    drop((scene, outside));
    measured
}

struct Scene<'a> {
    machine: &'a Machine,
    container: &'a Container,
    group: &'a Group,
    columns: &'a [Column<'a>; 3],
    windows: [Option<Window>; 3],
    born: f64,
    loaded: f64,
    ready: f64,
}

impl Scene<'_> {
    fn measure(&self) -> Vec<Measured> {
        let none = |row: &Row| Measured { row: *row, shown: vec![None; 3] };
        let mut all: Vec<_> = self.group.rows.iter().map(none).collect();
        let quick: Vec<_> =
            (0..all.len()).filter(|n| !all[*n].row.slow && installed(all[*n].row.tool)).collect();
        for column in 0..self.windows.len() {
            self.quick(&mut all, &quick, column);
        }
        for Measured { row, shown } in &mut all {
            if row.slow && installed(row.tool) {
                let row = &*row;
                // Through all windows at once.
                *shown = std::thread::scope(|scope| {
                    let threads = [0, 1, 2].map(|n| scope.spawn(move || self.slow(row, n)));
                    threads.map(|t| t.join().expect("a look ends")).to_vec()
                });
            }
        }
        all
    }

    /// Looks at rows that take no time, all in one go, and again at those that aren't right.
    fn quick(&self, all: &mut [Measured], quick: &[usize], column: usize) {
        let Some(window) = &self.windows[column] else { return };
        let mut wanted = quick.to_vec();
        for round in 0..TRIES {
            wanted.retain(|n| round < self.tries(&all[*n].row, column));
            if wanted.is_empty() {
                break;
            }
            let rows: Vec<Row> = wanted.iter().map(|n| all[*n].row).collect();
            for (n, shown) in wanted.iter().zip(self.look(&rows, window)) {
                all[*n].shown[column] = Some(shown);
            }
            wanted.retain(|n| all[*n].shown[column].as_ref().is_some_and(|s| !s.right));
        }
    }

    /// Looks at a row that takes seconds, again if it isn't right.
    fn slow(&self, row: &Row, column: usize) -> Option<Shown> {
        let window = self.windows[column].as_ref()?;
        let mut shown = self.one(row, window);
        for _ in 1..self.tries(row, column) {
            if shown.right {
                break;
            }
            shown = self.one(row, window);
        }
        Some(shown)
    }

    /// How often a figure is looked at until it is right: only what is judged.
    fn tries(&self, row: &Row, column: usize) -> usize {
        match self.columns[column] {
            Column::Ours(_) if row.limit.is_none() => TRIES,
            Column::Peer(_) if row.steady && row.slow => TRIES,
            Column::Peer(_) if row.steady => 2,
            _ => 1,
        }
    }

    fn one(&self, row: &Row, window: &Window) -> Shown {
        self.look(&[*row], window).pop().expect("an answer for each row")
    }

    /// Looks at several figures, one after the other.
    fn look(&self, rows: &[Row], window: &Window) -> Vec<Shown> {
        const END: &str = "=-=-=";
        let device = self.machine.disk.as_ref().map(|d| d.device.as_str());
        let one =
            |row: &Row| format!("( {} ) 2>&1; echo; echo {END}\n", self.machine.say(row.script));
        let script: String = rows.iter().map(one).collect();
        let first = Look::take(self.container.groups(), device);
        let said = self.container.look(window, &script).unwrap_or_else(|said| said);
        let around = Around {
            first,
            last: Look::take(self.container.groups(), device),
            born: self.born,
            loaded: self.loaded,
            ready: self.ready,
            limits: self.group.limits.clone(),
            processors: self.machine.processors,
            memory: self.machine.memory,
            swap: self.machine.swap,
        };
        let mut answers = said.split(END);
        let judge = |row: &Row| self.judge(row, &around, answers.next().unwrap_or_default());
        rows.iter().map(judge).collect()
    }

    fn judge(&self, row: &Row, around: &Around, said: &str) -> Shown {
        let text = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let text: String = text.chars().take(100).collect();
        let (right, expected) = match (row.expected)(around) {
            Expected::Words(words) => {
                let words = self.machine.say(&words);
                (text == words, words)
            }
            Expected::Between(least, most) => {
                let fits = |n: f64| n >= least - row.slack && n <= most + row.slack;
                (text.parse().is_ok_and(fits), bounds(least, most, row))
            }
        };
        Shown { text, right, expected }
    }
}

fn bounds(least: f64, most: f64, row: &Row) -> String {
    let number = |n: f64| match row.slack < 1.0 && row.slack > 0.0 {
        true => format!("{n:.2}"),
        false => format!("{n:.0}"),
    };
    let (least, most) = (number(least), number(most));
    let span = if least == most { least } else { format!("{least} to {most}") };
    let slack = if row.slack > 0.0 { format!(" ± {}", row.slack) } else { String::new() };
    format!("{span}{slack} {}", row.unit).trim_end().to_owned()
}

fn installed(tool: &'static str) -> bool {
    static KNOWN: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(tool).or_insert_with(|| look_for(tool))
}

fn look_for(tool: &str) -> bool {
    match tool.split(' ').next().unwrap_or_default() {
        "psutil" => {
            let mut python = Command::new("/usr/bin/python3");
            let python = python.args(["-c", "import psutil"]).stderr(Stdio::null());
            python.status().is_ok_and(|s| s.success())
        }
        name => program(name).is_some(),
    }
}
