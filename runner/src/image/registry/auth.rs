//! Who we are at a registry: passwords from the files of podman and docker (containers-auth.json(5)),
//! and the challenges of registries (RFC 7235, and the token specification of distribution).

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Options;
use crate::error::{Context, Error, Result};

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A password with each request.
    Basic,
    /// A token, from the realm.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// Returns the value of a `Basic` header for a host, if a password is known: base64 of `USER:PASSWORD`.
pub(super) fn password(host: &str, repository: &str, options: &Options) -> Result<Option<String>> {
    if let Some(creds) = &options.creds {
        if !creds.contains(':') {
            return Err(Error::new("--creds", "write USER:PASSWORD"));
        }
        return Ok(Some(STANDARD.encode(creds)));
    }
    if let Some(file) = &options.authfile {
        let text = fs::read(file).step_at("read", file)?;
        return from_file(&text, host, repository).map_err(|e| e.at(file));
    }
    for file in files() {
        if let Ok(text) = fs::read(&file)
            && let Some(found) = from_file(&text, host, repository).map_err(|e| e.at(&file))?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns the files in which passwords are looked for, in order.
fn files() -> Vec<PathBuf> {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|d| d.is_absolute());
    let mut all = Vec::new();
    all.extend(dir("REGISTRY_AUTH_FILE"));
    all.extend(dir("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")));
    let config = dir("XDG_CONFIG_HOME").or_else(|| dir("HOME").map(|h| h.join(".config")));
    all.extend(config.map(|d| d.join("containers/auth.json")));
    let docker = dir("DOCKER_CONFIG").or_else(|| dir("HOME").map(|h| h.join(".docker")));
    all.extend(docker.map(|d| d.join("config.json")));
    all
}

/// Finds the longest entry that the repository is below.
fn from_file(text: &[u8], host: &str, repository: &str) -> Result<Option<String>> {
    let value: Value = serde_json::from_slice(text).step("read passwords")?;
    let Some(auths) = value.get("auths").and_then(Value::as_object) else { return Ok(None) };
    let whole = format!("{host}/{repository}");
    let mut best: Option<(usize, &Value)> = None;
    for (key, entry) in auths {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let key = key.trim_end_matches("/v1/").trim_end_matches("/v2/").trim_end_matches('/');
        let key = if key == "index.docker.io" { "docker.io" } else { key };
        let matches =
            whole.strip_prefix(key).is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
        if matches && best.is_none_or(|(length, _)| key.len() > length) {
            best = Some((key.len(), entry));
        }
    }
    let Some((_, entry)) = best else { return Ok(None) };
    let auth = entry.get("auth").and_then(Value::as_str).unwrap_or("");
    if auth.is_empty() {
        return Ok(None);
    }
    match STANDARD.decode(auth) {
        Ok(plain) if plain.contains(&b':') => Ok(Some(auth.to_owned())),
        _ => Err(Error::new(
            "read passwords",
            format!("the entry for {host} is no base64 of USER:PASSWORD"),
        )),
    }
}

/// Reads a `WWW-Authenticate` header.
pub(super) fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (key, value) in parameters(rest) {
        match key.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// Reads `a="b, c",d=e`.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([',', ' ']).to_owned();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        all.push((key, value.to_owned()));
        rest = next;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood() {
        let header = r#"Bearer realm="https://a/token",service="r",scope="repository:x:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://a/token".into(),
            service: Some("r".into()),
            scope: Some("repository:x:pull,push".into()),
        };
        assert_eq!(challenge(header), Some(expected));
        assert_eq!(challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(challenge("Negotiate"), None);
    }

    #[test]
    fn the_longest_entry_counts() {
        let (a, b) = (STANDARD.encode("a:1"), STANDARD.encode("b:2"));
        let text =
            format!(r#"{{"auths":{{"h:5":{{"auth":"{a}"}},"https://h:5/me":{{"auth":"{b}"}}}}}}"#);
        let find = |repository| from_file(text.as_bytes(), "h:5", repository).unwrap();
        assert_eq!((find("x"), find("me/x"), find("meme")), (Some(a.clone()), Some(b), Some(a)));
        assert_eq!(from_file(text.as_bytes(), "h:50", "x").unwrap(), None);
        assert!(from_file(br#"{"auths":{"h":{"auth":"%%"}}}"#, "h", "x").is_err());
    }
}
