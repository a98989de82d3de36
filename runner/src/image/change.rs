//! Changes of an image's configuration in the words of a Containerfile (`--change`).

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::image::config::Document;

/// Applies one instruction, such as `CMD ["/bin/sh"]` or `ENV A=b`.
pub(crate) fn apply(document: &mut Document, instruction: &str) -> Result<()> {
    let bad = |why: &str| Error::new(format!("--change {instruction:?}"), why);
    let (word, rest) = match instruction.trim().split_once([' ', '\t', '=']) {
        Some((word, rest)) => (word.to_ascii_uppercase(), rest.trim()),
        None => return Err(bad("an instruction and its value are needed, such as `CMD /bin/sh`")),
    };
    let config = document.config_mut()?;
    match word.as_str() {
        "CMD" => drop(config.insert("Cmd".into(), command(rest))),
        "ENTRYPOINT" => drop(config.insert("Entrypoint".into(), command(rest))),
        "USER" => drop(config.insert("User".into(), rest.into())),
        "WORKDIR" => drop(config.insert("WorkingDir".into(), rest.into())),
        "STOPSIGNAL" => drop(config.insert("StopSignal".into(), rest.into())),
        "ENV" => {
            for (name, value) in pairs(rest).ok_or_else(|| bad("write NAME=VALUE"))? {
                set_env(config, &name, &value);
            }
        }
        "LABEL" => {
            let pairs = pairs(rest).ok_or_else(|| bad("write NAME=VALUE"))?;
            let pairs = pairs.into_iter().map(|(name, value)| (name, value.into()));
            object(config, "Labels", |labels| labels.extend(pairs));
        }
        "EXPOSE" => {
            let mut ports = Vec::new();
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                let known = ["tcp", "udp", "sctp"].contains(&protocol);
                if number.parse::<u16>().is_err() || !known {
                    return Err(bad("a port is a number, with /tcp, /udp or /sctp"));
                }
                ports.push((format!("{number}/{protocol}"), json!({})));
            }
            object(config, "ExposedPorts", |all| all.extend(ports));
        }
        "VOLUME" => {
            let paths = match serde_json::from_str::<Vec<String>>(rest) {
                Ok(paths) => paths,
                Err(_) => rest.split_whitespace().map(str::to_owned).collect(),
            };
            if paths.iter().any(|p| !p.starts_with('/')) {
                return Err(bad("a volume is an absolute path"));
            }
            let paths = paths.into_iter().map(|p| (p, json!({})));
            object(config, "Volumes", |all| all.extend(paths));
        }
        _ => {
            let known = "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR";
            return Err(bad(&format!("{word} can't be changed: use {known}")));
        }
    }
    Ok(())
}

/// A JSON list is the command itself, anything else is for the shell.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) => json!(list),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// Calls `fill` with a member that is an object, and is made one if it isn't.
fn object(config: &mut Map<String, Value>, key: &str, fill: impl FnOnce(&mut Map<String, Value>)) {
    let mut map = match config.remove(key) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    fill(&mut map);
    config.insert(key.into(), map.into());
}

fn set_env(config: &mut Map<String, Value>, name: &str, value: &str) {
    let start = format!("{name}=");
    let old = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept = old.into_iter().filter(|v| !v.as_str().is_some_and(|v| v.starts_with(&start)));
    let all: Vec<Value> = kept.chain([Value::from(format!("{start}{value}"))]).collect();
    config.insert("Env".into(), all.into());
}

/// Reads `A=b C="d e"`, or the older `A b c`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text);
    if words.first().is_some_and(|w| !w.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let split = |w: &String| w.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
    let pairs: Option<Vec<_>> = words.iter().map(split).collect();
    pairs.filter(|p| !p.is_empty() && p.iter().all(|(n, _)| !n.is_empty()))
}

/// Takes text apart at white space that no quotes or backslash protect.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, None) if c.is_whitespace() => all.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_what_they_name() {
        let mut d = Document::new("");
        for change in [
            "CMD [\"/bin/x\", \"-y\"]",
            "entrypoint run this",
            "ENV A=1 B=\"two words\"",
            "ENV A 3 4",
            "EXPOSE 80 53/udp",
            "LABEL k=v",
            "USER web:web",
            "VOLUME [\"/data\"]",
            "WORKDIR /w",
            "STOPSIGNAL SIGINT",
            "CMD=[\"/bin/z\"]",
        ] {
            apply(&mut d, change).unwrap();
        }
        let c = d.config();
        assert_eq!(
            (c.cmd, c.entrypoint),
            (vec!["/bin/z".to_owned()], vec!["/bin/sh".into(), "-c".into(), "run this".into()])
        );
        assert_eq!(c.env, ["B=two words", "A=3 4"]);
        assert_eq!(c.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!((c.user.as_str(), c.working_dir.as_str()), ("web:web", "/w"));
        assert_eq!((c.volumes, c.stop_signal), (vec!["/data".to_owned()], Some("SIGINT".into())));
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for bad in ["CMD", "RUN x", "EXPOSE http", "ENV =x", "VOLUME data", ""] {
            assert!(apply(&mut Document::new(""), bad).is_err(), "{bad}");
        }
    }
}
