//! `bench list`: suites, cases and subjects.

use std::path::PathBuf;

use clap::Args;

use super::run::chosen_subjects;
use crate::suite;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Who is meant by @user [default: palimpsest-ci, else nobody]
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Our union [default: beside this program, else in PATH]
    #[arg(long, value_name = "PROGRAM")]
    pub(super) unionfs: Option<PathBuf>,
    /// Our shim [default: the same]
    #[arg(long, value_name = "PROGRAM")]
    pub(super) procfs_shim: Option<PathBuf>,
    /// Our runner [default: the same]
    #[arg(long, value_name = "PROGRAM")]
    pub(super) runner: Option<PathBuf>,
}

/// Prints what there is.
pub(super) fn list(args: &ListArgs) -> Result<(), String> {
    println!("suites, and their blocks (--suite SUITE or SUITE/BLOCK):");
    for (name, about) in suite::SUITES {
        println!("  {name:<12}{about}");
        for block in suite::all().iter().filter(|b| b.suite == name) {
            let extra = if block.extra { "  (only with --suite or --full)" } else { "" };
            println!("              {}/{}{extra}", block.suite, block.name);
        }
    }
    println!("\nsubjects:");
    for found in chosen_subjects(args, &[]) {
        match found {
            Ok(s) => println!("  {:<24}{} [{}]", s.name, s.version, s.how()),
            Err(a) => println!("  {:<24}missing: {}", a.name, a.why),
        }
    }
    println!("  variants on request: overlay-volatile, overlay-metacopy, fuse-overlayfs-volatile,");
    println!(
        "  unionfs-volatile, unionfs-metacopy; each NAME@user; NAME=/path/to/program[,OPTION…]"
    );
    Ok(())
}
