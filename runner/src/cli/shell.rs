//! Completions for shells, and manual pages, made from the command line's own description.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::{Cli, print};
use crate::error::{Context, Result};

/// Print completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Shell
    shell: Shell,
}

/// Write manual pages.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for all pages [default: the main one is printed]
    dir: Option<PathBuf>,
}

/// Prints completions.
pub(super) fn completion(args: &CompletionArgs) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "runner", &mut text);
    print(&String::from_utf8_lossy(&text)).map(|()| 0)
}

/// Writes manual pages.
pub(super) fn man(args: &ManArgs) -> Result<u8> {
    match &args.dir {
        Some(dir) => pages(dir)?,
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text).step("write manual page")?;
            print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(0)
}

fn pages(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).step_at("create directory", dir)?;
    clap_mangen::generate_to(Cli::command(), dir).step_at("write manual pages to", dir)
}
