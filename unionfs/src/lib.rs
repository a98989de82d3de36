//! A FUSE daemon that merges read-only lower layers and a writable upper one, in the on-disk format
//! of overlayfs.
//!
//! Rooms, in reading order; a room uses those after it, never those before:
//! [`transport`] (the only one that speaks FUSE) → [`ops`] (one function a request) → [`resolve`]
//! (where a name lives) → [`copyup`] (the only door from lower to upper) → [`inode`] (what is known)
//! → [`layer`] (the directories below) → `sys`. Before them all stands [`offline`], which works on
//! layers that nobody has mounted.
//!
//! Lock order, outer before inner: `Union::renames`, `Inode::copying` (child before parent),
//! `Inode::place` (child before parent), `Dir::listing`, `Dir::meta`, `Dir::fds` and `Inode::file`;
//! shards of the inode table are held for one expression and never while another lock is taken. The
//! queue of `inode::kept` comes after a listing, and only tries those of other directories.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod copyup;
pub mod error;
pub mod inode;
pub mod layer;
pub mod offline;
pub mod ops;
pub mod resolve;
pub mod transport;

mod start;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs the program with `args` (the first is the name it was called by) and returns its exit code:
/// 0 the mount is live or was unmounted, 1 it could not be made, 2 wrong usage.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let called_as = cli::called_as(args.first().map(OsString::as_os_str));
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let code = e.exit_code();
            return match e.print() {
                Ok(()) => ExitCode::from(code as u8),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    let level = if cli.debug { log::LevelFilter::Debug } else { log::LevelFilter::Warn };
    daemon::logger::init("unionfs", level);
    if cli.foreground && cli::is_mount_helper(&called_as) {
        return verdict(config::Config::new(&cli, &called_as).map(|_| ExitCode::SUCCESS));
    }
    verdict(start::start(&cli, &called_as))
}

fn verdict(result: Result<ExitCode, error::StartError>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("unionfs: {e}");
            ExitCode::FAILURE
        }
    }
}
