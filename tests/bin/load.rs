//! A load for containers: memory, threads or processor time. Says `ready` when it is there, and stays
//! until it is killed. As `cover` it lays a server's files over the kernel's, and stays as long as its
//! standard input.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};

/// Stack of a thread that only sleeps, in bytes.
const STACK: usize = 16 << 10;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, server] = &args[..]
        && verb == "cover"
    {
        return cover(Path::new(server));
    }
    let number = args.get(1).and_then(|n| n.parse::<usize>().ok());
    let (Some(kind), Some(number)) = (args.first(), number) else {
        eprintln!("usage: load memory MIB | threads N | spin N | cover DIR");
        return ExitCode::from(2);
    };
    match kind.as_str() {
        "memory" => {
            let eaten = vec![1u8; number << 20];
            stay(&eaten);
        }
        "threads" => {
            start(number.saturating_sub(1), stay_quietly);
            stay(&());
        }
        "spin" => {
            start(number, spin);
            stay(&());
        }
        other => {
            eprintln!("{other} is no load: memory, threads or spin is");
            ExitCode::from(2)
        }
    }
}

/// Binds each file of `server`/proc over that of /proc, where there is one, and the directory of
/// processors.
fn cover(server: &Path) -> ExitCode {
    let cpus = "sys/devices/system/cpu";
    let mut covered = vec![(server.join(cpus), Path::new("/").join(cpus))];
    for dir in ["proc", "proc/pressure"] {
        for entry in std::fs::read_dir(server.join(dir)).into_iter().flatten().flatten() {
            let kernel = Path::new("/").join(dir).join(entry.file_name());
            if entry.path().is_file() && kernel.exists() {
                covered.push((entry.path(), kernel));
            }
        }
    }
    for (from, to) in covered {
        let none = None::<&str>;
        if let Err(e) = mount(Some(&from), &to, none, MsFlags::MS_BIND, none) {
            eprintln!("bind {} over {}: {e}", from.display(), to.display());
            return ExitCode::FAILURE;
        }
    }
    println!("up");
    match std::io::copy(&mut std::io::stdin(), &mut std::io::sink()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn start(count: usize, what: fn()) {
    for _ in 0..count {
        let thread = std::thread::Builder::new().stack_size(STACK);
        thread.spawn(what).expect("start a thread");
    }
}

fn spin() {
    loop {
        black_box(0);
    }
}

fn stay<T>(kept: &T) -> ! {
    println!("ready");
    std::io::stdout().flush().expect("say that the load is there");
    black_box(kept);
    loop {
        std::thread::park();
        black_box(kept);
    }
}

fn stay_quietly() {
    loop {
        std::thread::park();
    }
}
