//! `linux.seccomp`: which system calls a bundle allows.

use nix::libc;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};
use sys::seccomp::{arch, flag};

use crate::spec::{Action, Argument, Comparison, Listener, Profile, Rule};

/// The call by which the container's first process hands over the descriptor for answers: nobody can answer
/// it before.
const OURS: &str = "sendmsg";

/// Translates a profile. Names that no architecture here knows are skipped, as everywhere.
pub(super) fn translate(seccomp: &LinuxSeccomp) -> Result<Profile, String> {
    let number = |n: Option<u32>| {
        u16::try_from(n.unwrap_or(libc::EPERM as u32)).map_err(|_| "errnoRet: it is too large")
    };
    let default = action(seccomp.default_action(), number(seccomp.default_errno_ret())?);
    let mut rules = Vec::new();
    for call in seccomp.syscalls().iter().flatten() {
        let action = action(call.action(), number(call.errno_ret())?);
        rules.extend(rules_of(call, action)?);
    }
    let notifies = |action: Action| action == Action::Notify;
    let asks = rules.iter().any(|r| notifies(r.action));
    let unanswerable = |r: &&Rule| notifies(r.action) && r.names.iter().any(|n| n == OURS);
    if notifies(default) || rules.iter().find(unanswerable).is_some() {
        return Err(format!("SCMP_ACT_NOTIFY can't be for {OURS}, nor the default"));
    }
    let listener = match (asks, seccomp.listener_path()) {
        (false, _) => None,
        (true, None) => return Err("SCMP_ACT_NOTIFY needs listenerPath".to_owned()),
        (true, Some(path)) => Some(Listener {
            path: path.display().to_string(),
            metadata: seccomp.listener_metadata().clone().unwrap_or_default(),
        }),
    };
    let architectures = seccomp.architectures().iter().flatten().filter_map(|a| architecture(*a));
    Ok(Profile {
        flags: flags(seccomp.flags().as_deref().unwrap_or_default())?,
        architectures: architectures.collect(),
        listener,
        ..Profile::new(default, rules)
    })
}

fn architecture(named: Arch) -> Option<u32> {
    Some(match named {
        Arch::ScmpArchX86_64 => arch::X86_64,
        Arch::ScmpArchX86 => arch::I386,
        Arch::ScmpArchAarch64 => arch::AARCH64,
        Arch::ScmpArchArm => arch::ARM,
        _ => return None,
    })
}

fn flags(all: &[LinuxSeccompFilterFlag]) -> Result<u64, String> {
    let one = |f: &LinuxSeccompFilterFlag| match f {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => Ok(flag::LOG),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Ok(flag::SPEC_ALLOW),
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Ok(flag::WAIT_KILLABLE),
        // There is one thread when the filter is set.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Ok(0),
    };
    all.iter().try_fold(0, |all, f| one(f).map(|bit: u64| all | bit))
}

fn action(action: LinuxSeccompAction, number: u16) -> Action {
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Action::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(number),
        LinuxSeccompAction::ScmpActNotify => Action::Notify,
        LinuxSeccompAction::ScmpActTrace => Action::Trace(number),
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
    }
}

/// Returns the rules of an entry: one, or where an argument is compared twice, one a comparison, of which
/// any has to hold.
fn rules_of(call: &LinuxSyscall, action: Action) -> Result<Vec<Rule>, String> {
    let arguments = call.args().iter().flatten().map(argument).collect::<Result<Vec<_>, _>>()?;
    let rule = |arguments| Rule { names: call.names().clone(), action, arguments };
    let twice = |a: &Argument| arguments.iter().filter(|b| b.index == a.index).count() > 1;
    Ok(match arguments.iter().any(twice) {
        true => arguments.iter().map(|a| rule(vec![*a])).collect(),
        false => vec![rule(arguments)],
    })
}

fn argument(arg: &LinuxSeccompArg) -> Result<Argument, String> {
    let index = u8::try_from(arg.index()).ok().filter(|n| *n <= 5);
    let index = index.ok_or_else(|| format!("a call has no argument {}", arg.index()))?;
    let value = arg.value();
    let plain = |comparison| Argument { index, comparison, value };
    Ok(match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => plain(Comparison::NotEqual),
        LinuxSeccompOperator::ScmpCmpLt => plain(Comparison::Less),
        LinuxSeccompOperator::ScmpCmpLe => plain(Comparison::LessOrEqual),
        LinuxSeccompOperator::ScmpCmpEq => plain(Comparison::Equal),
        LinuxSeccompOperator::ScmpCmpGe => plain(Comparison::GreaterOrEqual),
        LinuxSeccompOperator::ScmpCmpGt => plain(Comparison::Greater),
        // The value is the mask, and the second value what remains.
        LinuxSeccompOperator::ScmpCmpMaskedEq => Argument {
            index,
            comparison: Comparison::Masked(value),
            value: arg.value_two().unwrap_or(0),
        },
    })
}
