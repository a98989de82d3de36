//! What runs inside the virtual machine: says each check's name, then whether it holds; then each
//! figure; at last how many of both, so that a console that was cut off proves nothing.
//!
//! Lines are a keyword and fields, with tabs between them: `tests/guest/console.rs` reads them.
#![forbid(unsafe_code)]

mod bundles;
mod containers;
mod limits;
mod shim;
mod unions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use support::figures::measure::{Column, Disk, Machine, group};
use support::figures::rows::{Pace, all};
use support::figures::server::Server;
use support::process::run;

/// Something that has to be so, in words, and what asserts it.
pub(crate) type Check = (&'static str, fn());

/// What the last panic said: a failed check's reason.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Says a line on the console in one piece.
fn say(fields: &[&str]) {
    let plain: Vec<_> = fields.iter().map(|f| f.replace(['\t', '\n', '\r'], " ")).collect();
    println!("{}", plain.join("\t"));
}

fn main() {
    std::panic::set_hook(Box::new(|info| {
        let mut said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.is_empty() {
            *said = info.to_string();
        }
    }));
    let checks: Vec<Check> =
        [shim::CHECKS, unions::CHECKS, limits::CHECKS, bundles::CHECKS, containers::CHECKS]
            .concat();
    for (name, _) in &checks {
        say(&["PLAN", name]);
    }
    say(&["PLAN", FIGURES]);
    say(&["VERSIONS", &versions()]);
    for (name, check) in &checks {
        hold(name, check);
    }
    let mut figures = 0;
    hold(FIGURES, || figures = all_figures());
    say(&["VERDICT", &(checks.len() + 1).to_string(), &figures.to_string()]);
}

/// The last check.
const FIGURES: &str = "figures are looked at";

fn hold(name: &str, check: impl FnOnce()) {
    SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(()) => say(&["CHECK", name, "ok"]),
        Err(_) => {
            let said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            say(&["CHECK", name, "FAILED", &said]);
        }
    }
}

fn versions() -> String {
    let kernel = nix::sys::utsname::uname().expect("uname");
    let release = kernel.release().to_string_lossy();
    let release: Vec<_> = release.split('.').take(2).collect();
    let out = run(Command::new("lxcfs").arg("--version"));
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).trim().to_owned();
    format!("Measured with Linux {} in QEMU and lxcfs {said}.", release.join("."))
}

/// Looks at all figures, says them, and returns how many there were.
fn all_figures() -> usize {
    let numbers = std::fs::read_to_string("/sys/block/vda/dev").expect("the disk");
    let disk = Disk {
        path: PathBuf::from("/dev/vda"),
        name: "vda".to_owned(),
        device: numbers.trim().to_owned(),
    };
    let machine = Machine::here(Path::new("/bin/load"), Some(disk));
    let shim = Server::shim(Path::new("/bin/procfs-shim"));
    let lxcfs = Server::lxcfs(Path::new("/bin/lxcfs"));
    let columns = [Column::Empty, Column::Ours(shim.path()), Column::Peer(lxcfs.path())];
    let mut count = 0;
    for one in all(Pace::Emulated) {
        assert!(machine.has(one.needs), "{}: this machine has {:?}", one.load, one.needs);
        let measured = group(&machine, &columns, &one);
        for (number, m) in measured.iter().enumerate() {
            for (column, shown) in m.shown.iter().enumerate() {
                let Some(shown) = shown else { continue };
                let right = if shown.right { "right" } else { "wrong" };
                let (number, column) = (number.to_string(), column.to_string());
                say(&["ROW", one.load, &number, &column, right, &shown.text, &shown.expected]);
                count += 1;
            }
        }
    }
    count
}

/// Runs a script that must succeed, and returns what it wrote.
pub(crate) fn sh(script: &str) -> String {
    support::process::shell(Path::new("/"), script)
}
