//! Names of images: `[DOMAIN/]PATH[:TAG][@DIGEST]`, as podman and docker read them.

use std::fmt;

use crate::error::{Error, Result};
use crate::image::digest::Digest;

/// Longest name without tag and digest (the distribution specification's).
const NAME_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;

/// A name with its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host, with its port if it has one; `localhost` without a port is no registry.
    pub(crate) domain: String,
    /// Path below it.
    pub(crate) path: String,
    /// Tag.
    pub(crate) tag: Option<String>,
    /// Digest of a manifest.
    pub(crate) digest: Option<Digest>,
}

impl Reference {
    /// Reads a name that is given to an image here: without a registry it belongs to `localhost`,
    /// without a tag it is `latest`.
    pub(crate) fn local(text: &str) -> Result<Reference> {
        let mut r = Reference::parse(text, "localhost")?;
        if r.digest.is_some() {
            return Err(invalid(text, "a name that is given can't have a digest"));
        }
        r.tag.get_or_insert_with(|| "latest".to_owned());
        Ok(r)
    }

    /// Reads a name of an image elsewhere: without a registry it is Docker's, and there in `library`.
    pub(crate) fn remote(text: &str) -> Result<Reference> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let mut r = Reference::parse(text, "docker.io")?;
        if r.domain == "docker.io" && !r.path.contains('/') {
            r.path = format!("library/{}", r.path);
        }
        if r.domain == "localhost" {
            return Err(invalid(text, "localhost is no registry").hint(
                "name one with its port (localhost:5000/...), or use an image that is here",
            ));
        }
        if r.digest.is_none() {
            r.tag.get_or_insert_with(|| "latest".to_owned());
        }
        Ok(r)
    }

    /// Returns the names that `text` may mean among those of the store, the likeliest first.
    pub(crate) fn candidates(text: &str) -> Vec<Reference> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let mut all = Vec::new();
        all.extend(Reference::parse(text, "localhost"));
        all.extend(Reference::remote(text));
        for r in &mut all {
            if r.digest.is_none() {
                r.tag.get_or_insert_with(|| "latest".to_owned());
            }
        }
        all.dedup();
        all
    }

    fn parse(text: &str, default_domain: &str) -> Result<Reference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(invalid(text, "letters, digits, `_`, `.` and `-` make a tag"));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if is_domain(first) => (first, path),
            _ => (default_domain, name),
        };
        if name.len() > NAME_MAX || !path.split('/').all(is_component) {
            return Err(invalid(
                text,
                "a name is lower-case letters and digits, with `.`, `_`, `-` between them and `/` between its parts",
            ));
        }
        Ok(Reference {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// Returns the name without tag and digest.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::new(format!("image name {text:?}"), why)
}

fn is_domain(first: &str) -> bool {
    let plausible = first.contains('.') || first.contains(':') || first == "localhost";
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    plausible && !first.is_empty() && first.bytes().all(allowed)
}

fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let allowed = |b: u8| word(b) || matches!(b, b'.' | b'_' | b'-');
    let ends = [part.bytes().next(), part.bytes().last()];
    ends.iter().all(|b| b.is_some_and(word)) && part.bytes().all(allowed) && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = tag.bytes().next();
    let allowed = |b: u8| word(b) || matches!(b, b'.' | b'-');
    first.is_some_and(word) && tag.len() <= TAG_MAX && tag.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_registry_belong_here_or_to_docker() {
        let local = |t| Reference::local(t).unwrap().to_string();
        assert_eq!(local("web"), "localhost/web:latest");
        assert_eq!(local("me/web:1"), "localhost/me/web:1");
        assert_eq!(local("host:5000/web"), "host:5000/web:latest");
        let remote = |t| Reference::remote(t).unwrap().to_string();
        assert_eq!(remote("debian"), "docker.io/library/debian:latest");
        assert_eq!(remote("docker://quay.io/a/b:c"), "quay.io/a/b:c");
        let digest = Digest::of(b"");
        assert_eq!(remote(&format!("h:1/x@{digest}")), format!("h:1/x@{digest}"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in
            ["", "A", "a//b", "a/../b", "a:", "a:b c", "-a", "a_", "a@sha256:1", "a:.x", "/a"]
        {
            assert!(Reference::local(bad).is_err(), "{bad}");
        }
        assert!(Reference::remote("localhost/x").is_err());
    }
}
