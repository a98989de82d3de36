//! Runs the machine and reads its verdict from the serial console.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use support::figures::measure::{Measured, Shown};
use support::figures::page::{self, Part};
use support::figures::rows;

use crate::kernel::Kernel;

/// How long the machine may say nothing before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long it may run. All of it takes four minutes where two processors are free.
const LIMIT: Duration = Duration::from_secs(12 * 60);

/// Words for the kernel: mitigations of processors' faults only cost time where there is none.
const APPEND: &str = "console=ttyS0 loglevel=1 panic=-1 cgroup_no_v1=all mitigations=off nokaslr";

/// What the machine said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    log: String,
    /// Names of the checks that were going to be run.
    planned: BTreeSet<String>,
    /// Why each failed, or `None`.
    checks: BTreeMap<String, Option<String>>,
    /// Figures: by load and row, then by column.
    shown: BTreeMap<(String, usize), Vec<Option<Shown>>>,
    versions: String,
    /// Numbers of checks and figures, said last: nothing was cut off.
    verdict: Option<(usize, usize)>,
    /// Why the machine was switched off.
    cut: Option<String>,
}

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        for done in [self.0.kill(), self.0.wait().map(drop)] {
            if let Err(e) = done {
                eprintln!("end of the machine: {e}");
            }
        }
    }
}

/// Boots the machine and listens until it is off, or has to be switched off.
pub(crate) fn run(kernel: &Kernel, archive: &Path, dir: &Path) -> Report {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2", "-m", "1536"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-append", APPEND])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(archive);
    for (name, size) in [("disk", 64 << 20), ("swap", 256 << 20)] {
        let path = dir.join(name);
        let made = std::fs::File::create(&path).and_then(|f| f.set_len(size));
        made.expect("make a disk");
        let drive = format!("file={},if=virtio,format=raw,cache=unsafe", path.display());
        command.arg("-drive").arg(drive);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut machine = Machine(command.spawn().expect("start qemu"));
    let console = machine.0.stdout.take().expect("a pipe");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if tell.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let mut report = Report::default();
    report.listen(&told, PATIENCE, LIMIT);
    report
}

impl Report {
    /// Reads lines until there are no more, or none has come for too long, or they come for too long.
    fn listen(&mut self, told: &Receiver<String>, patience: Duration, limit: Duration) {
        let began = Instant::now();
        loop {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                self.cut = Some(format!("it ran for more than {} s", limit.as_secs()));
                return;
            }
            match told.recv_timeout(patience.min(left)) {
                Ok(line) => self.take(&line, began.elapsed()),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if patience < left => {
                    self.cut = Some(format!("it said nothing for {} s", patience.as_secs()));
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Reads a line: a keyword, then fields behind tabs.
    fn take(&mut self, line: &str, at: Duration) {
        self.log.push_str(&format!("{:4} s: {line}\n", at.as_secs()));
        let fields: Vec<_> = line.split('\t').collect();
        match fields[..] {
            ["PLAN", name] => {
                self.planned.insert(name.to_owned());
            }
            ["CHECK", name, "ok"] => {
                self.checks.insert(name.to_owned(), None);
            }
            ["CHECK", name, "FAILED", why] => {
                self.checks.insert(name.to_owned(), Some(why.to_owned()));
            }
            ["VERSIONS", said] => self.versions = said.to_owned(),
            ["ROW", load, number, column, right, text, expected] => {
                let number = number.parse().expect("the number of a row");
                let column: usize = column.parse().expect("the number of a column");
                let shown = self.shown.entry((load.to_owned(), number)).or_insert(vec![None; 3]);
                let (text, expected) = (text.to_owned(), expected.to_owned());
                shown[column] = Some(Shown { text, right: right == "right", expected });
            }
            ["VERDICT", checks, figures] => {
                let number = |n: &str| n.parse().expect("a number");
                self.verdict = Some((number(checks), number(figures)));
            }
            _ => {}
        }
    }

    /// Returns the figures in the order of the page.
    fn measured(&self) -> Vec<(&'static str, Vec<Measured>)> {
        let mut all = Vec::new();
        for group in rows::all(rows::Pace::Emulated) {
            let rows = group.rows.iter().enumerate().filter_map(|(n, row)| {
                let shown = self.shown.get(&(group.load.to_owned(), n))?.clone();
                Some(Measured { row: *row, shown })
            });
            let rows: Vec<_> = rows.collect();
            if !rows.is_empty() {
                all.push((group.load, rows));
            }
        }
        all
    }

    /// Writes the page's part on cgroup v2, if that is asked for and nothing was cut off.
    pub(crate) fn write_page(&self) {
        if std::env::var_os("PALIMPSEST_WRITE_VALUES").is_none() || self.verdict.is_none() {
            return;
        }
        let old = std::fs::read_to_string(page::path()).unwrap_or_default();
        let new = page::with_part(&old, Part::V2, &self.versions, &self.measured());
        std::fs::write(page::path(), new).expect("write docs/procfs-values.md");
    }

    /// Asserts that each check was run and is good, and each figure as the page has it.
    pub(crate) fn assert_good(&self) {
        let end = |n: usize| {
            let lines: Vec<_> = self.log.lines().rev().take(n).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        if let Some(why) = &self.cut {
            panic!("the machine was switched off, as {why}; its console ends:\n{}", end(80));
        }
        let Some((checks, figures)) = self.verdict else {
            panic!("the machine's console ends without a verdict:\n{}", end(80));
        };
        let said = self.shown.values().flatten().flatten().count();
        assert_eq!((checks, figures), (self.checks.len(), said), "lines are lost:\n{}", end(400));
        let ran: BTreeSet<_> = self.checks.keys().cloned().collect();
        assert_eq!(self.planned, ran, "each check that was planned is run");
        let failed = self.checks.iter().filter_map(|(name, why)| Some((name, why.as_ref()?)));
        let mut wrong: Vec<_> = failed.map(|(name, why)| format!("{name}: {why}")).collect();
        let text = std::fs::read_to_string(page::path()).expect("read docs/procfs-values.md");
        let found = page::differences(&text, Part::V2, &self.versions, &self.measured());
        wrong.extend(found.failures());
        assert!(wrong.is_empty(), "{}\n\n{}", wrong.join("\n"), end(400));
        assert!(figures > 100 && checks >= 10, "{checks} checks, {figures} figures");
        eprintln!("{checks} checks and {figures} figures on cgroup v2");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns why a console that said this is no proof.
    fn refused(lines: &str) -> String {
        let mut report = Report::default();
        lines.lines().for_each(|line| report.take(line, Duration::ZERO));
        let panic = std::panic::catch_unwind(|| report.assert_good()).expect_err("no proof");
        panic.downcast_ref::<String>().expect("a reason").clone()
    }

    #[test]
    fn a_console_that_is_cut_proves_nothing() {
        assert!(refused("PLAN\ta\nCHECK\ta\tok").contains("without a verdict"));
        assert!(refused("PLAN\ta\nVERDICT\t1\t0").contains("lines are lost"));
        assert!(refused("PLAN\ta\nPLAN\tb\nCHECK\ta\tok\nVERDICT\t1\t0").contains("planned"));
    }

    #[test]
    fn a_machine_that_goes_on_for_ever_is_switched_off() {
        let (tell, told) = mpsc::channel();
        let speaks = std::thread::spawn(move || while tell.send("on and on".into()).is_ok() {});
        let mut report = Report::default();
        report.listen(&told, PATIENCE, Duration::from_millis(20));
        assert!(report.log.is_empty() || report.log.ends_with("on and on\n"));
        assert!(report.cut.is_some_and(|why| why.contains("ran for more")));
        drop(told);
        speaks.join().expect("it ends");
        let (_silent, told) = mpsc::channel();
        let mut report = Report::default();
        report.listen(&told, Duration::from_millis(1), LIMIT);
        let said = std::panic::catch_unwind(|| report.assert_good()).expect_err("no proof");
        let said = said.downcast_ref::<String>().expect("a reason");
        assert!(said.contains("switched off, as it said nothing"), "{said}");
    }

    #[test]
    fn a_check_that_fails_is_said() {
        let said = refused("PLAN\ta\nCHECK\ta\tFAILED\tof this\nVERDICT\t1\t0");
        assert!(said.contains("a: of this"), "{said}");
    }
}
