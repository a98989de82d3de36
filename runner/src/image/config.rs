//! The configuration of an image: what a container is started with, and how it came to be. The
//! document is kept as it came; only what is asked for is looked at (image-spec, config.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;

/// Largest configuration that is read, as other engines have it.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;

/// What an image says of the containers made of it; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    /// Start of the command.
    pub(crate) entrypoint: Vec<String>,
    /// Rest of the command, unless one is given.
    pub(crate) cmd: Vec<String>,
    /// Environment, `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// `USER[:GROUP]`.
    pub(crate) user: String,
    /// Working directory.
    pub(crate) working_dir: String,
    /// Paths that get a volume.
    pub(crate) volumes: Vec<String>,
    /// Signal that ends the program.
    pub(crate) stop_signal: Option<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Ports, `80/tcp`.
    pub(crate) exposed_ports: Vec<String>,
}

/// The whole document.
#[derive(Clone, Debug)]
pub(crate) struct Document(Map<String, Value>);

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// It isn't JSON, or lacks the layers.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document> {
        let value: Value = serde_json::from_slice(bytes).step("read the image's configuration")?;
        let Value::Object(map) = value else {
            return Err(Error::new("read the image's configuration", "it is no JSON object"));
        };
        let document = Document(map);
        document.diff_ids()?;
        Ok(document)
    }

    /// Begins a document for this machine, without layers.
    pub(crate) fn new(created: &str) -> Document {
        let value = json!({
            "created": created,
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        });
        match value {
            Value::Object(map) => Document(map),
            _ => Document(Map::new()),
        }
    }

    /// Returns the document's bytes.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.0).step("write the image's configuration")
    }

    /// Returns the whole.
    pub(crate) fn value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Returns the layers' DiffIDs, the bottom one first.
    pub(crate) fn diff_ids(&self) -> Result<Vec<Digest>> {
        let wrong = || {
            let cause = "rootfs.diff_ids is no list of digests";
            Error::new("read the image's configuration", cause)
        };
        let ids = self.0.get("rootfs").and_then(|r| r.get("diff_ids"));
        let ids = match ids {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(ids) => ids.as_array().ok_or_else(wrong)?,
        };
        ids.iter().map(|i| i.as_str().and_then(|s| s.parse().ok()).ok_or_else(wrong)).collect()
    }

    /// Returns when it was made, as it says.
    pub(crate) fn created(&self) -> &str {
        self.text("created")
    }

    /// Returns a member that is text, or nothing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// Returns how it came to be, the bottom step first.
    pub(crate) fn history(&self) -> Vec<Value> {
        self.0.get("history").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// Adds a layer with its history.
    pub(crate) fn push_layer(&mut self, diff_id: &Digest, history: Value) -> Result<()> {
        let rootfs = self.object("rootfs")?;
        rootfs.insert("type".into(), "layers".into());
        array(rootfs, "diff_ids")?.push(diff_id.to_string().into());
        self.push_history(history)
    }

    /// Adds a step of its history.
    pub(crate) fn push_history(&mut self, step: Value) -> Result<()> {
        array(&mut self.0, "history")?.push(step);
        Ok(())
    }

    /// Sets a member of the document.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// Returns the part that containers are started with, for changes.
    pub(crate) fn config_mut(&mut self) -> Result<&mut Map<String, Value>> {
        self.object("config")
    }

    fn object(&mut self, key: &str) -> Result<&mut Map<String, Value>> {
        let slot = self.0.entry(key).or_insert_with(|| json!({}));
        if slot.is_null() {
            *slot = json!({});
        }
        slot.as_object_mut().ok_or_else(|| not_a(key, "object"))
    }

    /// Returns what containers are started with.
    pub(crate) fn config(&self) -> ImageConfig {
        let empty = Map::new();
        let config = self.0.get("config").and_then(Value::as_object).unwrap_or(&empty);
        let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let list = |key: &str| strings(config.get(key));
        let keys = |key: &str| match config.get(key) {
            Some(Value::Object(map)) => map.keys().cloned().collect(),
            other => strings(other),
        };
        let labels = config.get("Labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let labels = labels.map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned()));
        ImageConfig {
            entrypoint: list("Entrypoint"),
            cmd: list("Cmd"),
            env: list("Env"),
            user: text("User"),
            working_dir: text("WorkingDir"),
            volumes: keys("Volumes"),
            stop_signal: Some(text("StopSignal")).filter(|s| !s.is_empty()),
            labels: labels.collect(),
            exposed_ports: keys("ExposedPorts"),
        }
    }
}

fn not_a(key: &str, what: &str) -> Error {
    Error::new("image's configuration", format!("{key} is no {what}"))
}

fn array<'a>(map: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>> {
    let slot = map.entry(key).or_insert_with(|| json!([]));
    if slot.is_null() {
        *slot = json!([]);
    }
    slot.as_array_mut().ok_or_else(|| not_a(key, "list"))
}

/// Returns a list of texts; a text alone is a list of one.
fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(all)) => {
            all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        }
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}

/// Returns the name that images have for this machine's processor (Go's `GOARCH`).
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_document_is_understood() {
        let text = br#"{"config":{"Entrypoint":null,"Cmd":["/bin/sh"],"Env":["A=b"],"User":"web",
            "ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"Labels":{"k":"v"},"WorkingDir":"/w",
            "StopSignal":"SIGINT"},"rootfs":{"type":"layers","diff_ids":[]},"x":1}"#;
        let c = Document::parse(text).unwrap().config();
        assert_eq!((c.entrypoint.len(), c.cmd), (0, vec!["/bin/sh".to_owned()]));
        assert_eq!((c.user.as_str(), c.working_dir.as_str()), ("web", "/w"));
        assert_eq!((c.exposed_ports, c.volumes), (vec!["80/tcp".into()], vec!["/data".into()]));
        assert_eq!(c.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(c.labels.get("k").map(String::as_str), Some("v"));
    }

    #[test]
    fn a_layer_more_keeps_what_is_not_understood() {
        let mut d = Document::parse(br#"{"x":1,"history":null}"#).unwrap();
        d.push_layer(&Digest::of(b""), json!({"created_by": "t"})).unwrap();
        let again = Document::parse(&d.to_bytes().unwrap()).unwrap();
        assert_eq!(again.diff_ids().unwrap(), [Digest::of(b"")]);
        assert_eq!(again.value()["x"], 1);
        assert_eq!(again.history().len(), 1);
    }

    #[test]
    fn broken_documents_are_refused() {
        for bad in ["", "[]", r#"{"rootfs":{"diff_ids":["../x"]}}"#, r#"{"rootfs":{"diff_ids":7}}"#]
        {
            assert!(Document::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
