//! Reads profiles of system calls: Docker's and podman's form, and that of the OCI runtime specification,
//! which is a part of it.

use serde::Deserialize;

use crate::launch::filter;
use crate::spec::{Action, Argument, Comparison, Profile, Rule, capability};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Condition>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
}

impl Filter {
    /// Whether all that it names holds here.
    fn holds(&self, capabilities: u64) -> Option<bool> {
        let has =
            |name: &String| capability::named(name).is_some_and(|bits| capabilities & bits == bits);
        let is_here = |name: &String| match name.as_str() {
            "amd64" => cfg!(target_arch = "x86_64"),
            "x86" => cfg!(target_arch = "x86_64"),
            "arm64" | "arm" => cfg!(target_arch = "aarch64"),
            _ => false,
        };
        let caps = self.caps.as_ref().filter(|c| !c.is_empty()).map(|c| c.iter().all(has));
        let arches = self.arches.as_ref().filter(|a| !a.is_empty()).map(|a| a.iter().any(is_here));
        match (caps, arches) {
            (None, None) => None,
            (caps, arches) => Some(caps.unwrap_or(true) && arches.unwrap_or(true)),
        }
    }
}

/// Reads a profile for a container with these capabilities.
pub(crate) fn parse_profile(text: &str, capabilities: u64) -> Result<Profile, String> {
    let document: Document = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let default = action(&document.default_action, document.default_errno_ret)?;
    let mut rules = Vec::new();
    for entry in document.syscalls {
        let included = entry.includes.as_ref().and_then(|f| f.holds(capabilities)).unwrap_or(true);
        let excluded = entry.excludes.as_ref().and_then(|f| f.holds(capabilities)).unwrap_or(false);
        if !included || excluded {
            continue;
        }
        let names: Vec<String> = entry.names.into_iter().chain(entry.name).collect();
        let action = action(&entry.action, entry.errno_ret)?;
        let arguments = entry.args.unwrap_or_default();
        let arguments = arguments.iter().map(argument).collect::<Result<Vec<_>, _>>()?;
        if action != Action::Allow && !names.iter().any(|n| filter::knows(n)) {
            return Err(format!("none of the calls {} is known here", names.join(", ")));
        }
        rules.push(Rule { names, action, arguments });
    }
    Ok(Profile::new(default, rules))
}

fn action(name: &str, number: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(number.unwrap_or(1)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" | "SCMP_ACT_TRACE" => {
            return Err(format!("{name} needs a program that answers, which can't be named here"));
        }
        other => return Err(format!("`{other}` is no action")),
    })
}

fn argument(c: &Condition) -> Result<Argument, String> {
    let plain = |comparison| Argument { index: c.index, comparison, value: c.value };
    if c.index > 5 {
        return Err(format!("a call has no argument {}", c.index));
    }
    Ok(match c.op.as_str() {
        "SCMP_CMP_EQ" => plain(Comparison::Equal),
        "SCMP_CMP_NE" => plain(Comparison::NotEqual),
        "SCMP_CMP_LT" => plain(Comparison::Less),
        "SCMP_CMP_LE" => plain(Comparison::LessOrEqual),
        "SCMP_CMP_GT" => plain(Comparison::Greater),
        "SCMP_CMP_GE" => plain(Comparison::GreaterOrEqual),
        // The value is the mask, and the second value what remains.
        "SCMP_CMP_MASKED_EQ" => {
            Argument { index: c.index, comparison: Comparison::Masked(c.value), value: c.value_two }
        }
        other => return Err(format!("`{other}` is no comparison")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_form_is_read() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
             "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let usual = parse_profile(text, 0).unwrap();
        assert_eq!(usual.default, Action::Errno(38));
        let names = |p: &Profile| p.rules.iter().flat_map(|r| r.names.clone()).collect::<Vec<_>>();
        assert_eq!(names(&usual), ["read", "clone"]);
        assert_eq!(names(&parse_profile(text, capability::ALL).unwrap()), ["read", "mount"]);
        for bad in ["", "{}", r#"{"defaultAction": "NOPE"}"#] {
            assert!(parse_profile(bad, 0).is_err(), "{bad}");
        }
    }
}
