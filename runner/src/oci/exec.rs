//! `exec`: a further program in a container.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process as Asked, Spec};
use sys::process::clone_flags;

use crate::error::{Context, Error, Result};
use crate::launch::{self, Console, Entering, Further, join};
use crate::oci::create::{check_kept, console, hand_over, listener, own_size, write_pid};
use crate::oci::options::ExecArgs;
use crate::oci::process::{self, Around};
use crate::oci::state::{Locked, Record, Status};
use crate::oci::{Log, validate};
use crate::spec::{First, Identity, MapWriter, Maps, Shim};

/// Starts the program, and unless it is left alone waits for it.
pub(super) fn exec(args: ExecArgs, root: &Path, log: &Log) -> Result<u8> {
    check_kept(args.preserve_fds)?;
    let (locked, record) = Locked::find(root, &args.id)?;
    match locked.status(&record) {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        status => {
            let what = format!("nothing can be started in it, as it is {}", status.word());
            return Err(Error::new(format!("container {}", args.id), what));
        }
    }
    let config: Spec =
        serde_json::from_value(record.config.clone()).step("read the configuration")?;
    let asked = asked(&args, &config)?;
    validate::process(&asked).map_err(|why| Error::new("exec", why))?;
    let ours = match (asked.terminal() == Some(true), args.detach) {
        (true, true) if args.console_socket.is_none() => {
            return Err(Error::new("--detach", "nobody gets the other end of the terminal")
                .hint("give --console-socket"));
        }
        (true, _) => Console::Ours(None),
        (false, _) => Console::None,
    };
    let size = asked.console_size();
    let size = size.map(|s| sys::tty::Size { rows: s.height() as u16, columns: s.width() as u16 });
    let size = size.or_else(|| own_size(std::os::fd::AsFd::as_fd(&std::io::stdin())));
    let socket = args.console_socket.as_deref().filter(|_| asked.terminal() == Some(true));
    let console = console(socket, ours, size)?;
    let entering = entering(&args, &record, &config, &asked)?;
    let listener = listener(&record)?;
    let mut on_calls = |fd: OwnedFd, pid: i32| match &listener {
        Some(listener) => hand_over(listener, &fd, &record, pid),
        None => Ok(()),
    };
    if !args.detach {
        launch::prepare_to_attend()?;
    }
    let warn = |text: &str| log.warn(text);
    let (pid, console) =
        launch::start_further(Further { entering, console, warn: &warn, on_calls: &mut on_calls })?;
    drop(locked);
    if let Some(path) = &args.pid_file {
        write_pid(path, pid)?;
    }
    if args.detach { Ok(0) } else { launch::attend(pid, console.ours()) }
}

fn entering(args: &ExecArgs, record: &Record, config: &Spec, asked: &Asked) -> Result<Entering> {
    let first = record.first.ok_or_else(|| Error::new("exec", "the container has no process"))?;
    let linux = config.linux().as_ref();
    let around = Around {
        seccomp: linux.and_then(|l| l.seccomp().as_ref()),
        personality: linux.and_then(|l| l.personality().as_ref()),
        first: First::Init,
        kept: args.preserve_fds,
    };
    let namespaces = join::namespaces_of(first.pid)?;
    Ok(Entering {
        first,
        cgroups: record.cgroups.clone(),
        identity: identity(first.pid, namespaces),
        namespaces,
        declared: Shim::default(),
        process: process::translate(asked, &around)?,
    })
}

/// Returns whose users the container has, as far as a further process needs to know.
fn identity(pid: i32, namespaces: u64) -> Identity {
    if namespaces & clone_flags::NEWUSER == 0 {
        return Identity::Host;
    }
    let denied = fs::read_to_string(format!("/proc/{pid}/setgroups"))
        .is_ok_and(|text| text.trim() == "deny");
    let writer = if denied { MapWriter::Ourselves } else { MapWriter::Privileged };
    Identity::Mapped(Maps { uids: Vec::new(), gids: Vec::new(), writer })
}

/// Returns the process that is asked for: that of a file, or the container's own with changes.
fn asked(args: &ExecArgs, config: &Spec) -> Result<Asked> {
    if let Some(path) = &args.process {
        let text = fs::read(path).step_at("--process: read", path)?;
        return serde_json::from_slice(&text).step_at("--process: read", path);
    }
    if args.command.is_empty() {
        return Err(Error::new("exec", "no program is given").hint("name one, or give --process"));
    }
    let mut asked = config.process().clone().unwrap_or_default();
    asked.set_args(Some(args.command.clone())).set_terminal(Some(args.tty)).set_console_size(None);
    if let Some(cwd) = &args.cwd {
        asked.set_cwd(PathBuf::from(cwd));
    }
    if !args.env.is_empty() {
        let mut env = asked.env().clone().unwrap_or_default();
        env.extend(args.env.iter().cloned());
        asked.set_env(Some(env));
    }
    if args.no_new_privs {
        asked.set_no_new_privileges(Some(true));
    }
    let mut user = asked.user().clone();
    if let Some(text) = &args.user {
        let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
        let number = |what: &str| {
            what.parse::<u32>()
                .map_err(|_| Error::new("--user", format!("`{text}` is no UID[:GID]")))
        };
        user.set_uid(number(uid)?);
        if text.contains(':') {
            user.set_gid(number(gid)?);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut all = user.additional_gids().clone().unwrap_or_default();
        all.extend(&args.additional_gids);
        user.set_additional_gids(Some(all));
    }
    asked.set_user(user);
    capabilities(args, &mut asked)?;
    Ok(asked)
}

/// Grants further capabilities, in the sets in which they count.
fn capabilities(args: &ExecArgs, asked: &mut Asked) -> Result<()> {
    if args.cap.is_empty() {
        return Ok(());
    }
    let mut sets = asked.capabilities().clone().unwrap_or_default();
    for name in &args.cap {
        let unknown = |_| Error::new("--cap", format!("`{name}` is no capability"));
        let value = serde_json::Value::String(name.to_ascii_uppercase());
        let cap: oci_spec::runtime::Capability = serde_json::from_value(value).map_err(unknown)?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut all = set.clone().unwrap_or_default();
            all.insert(cap);
            Some(all)
        };
        let (bounding, effective) = (with(sets.bounding()), with(sets.effective()));
        let permitted = with(sets.permitted());
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    asked.set_capabilities(Some(sets));
    Ok(())
}
