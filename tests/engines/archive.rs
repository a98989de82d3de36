//! Archives of images and containers as text that can be compared: sorted, and without times.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::Path;

use tar::{Archive, Entry, EntryType};

/// Returns the layers of each image in a docker archive with several images, by the image's name.
pub(crate) fn images(path: &Path) -> BTreeMap<String, Vec<Vec<String>>> {
    let files = files(&read(path));
    let manifest = files.get("manifest.json").expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(manifest).expect("a manifest in JSON");
    let images = manifest.as_array().expect("a list of images").iter().map(|image| {
        let name = image["RepoTags"][0].as_str().expect("a name").to_owned();
        let layers = image["Layers"].as_array().expect("a list of layers").iter().map(|layer| {
            let name = layer.as_str().expect("the name of a layer");
            lines(files.get(name).unwrap_or_else(|| panic!("the archive lacks {name}")))
        });
        (name, changes(layers.collect()))
    });
    images.collect()
}

/// Mark of a directory that hides what is below it (image-spec, layer.md).
const OPAQUE: &str = "/.wh..wh..opq ";
/// What a directory's line has after its path.
const DIRECTORY: &str = " Directory ";

/// Brings layers to what they change. Engines archive an overlay's upper as it is, or else compare two
/// trees: the former gives opaque marks, here replaced by the whiteouts that they stand for, and
/// directories that are as they are below, here left out.
fn changes(mut layers: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for n in 0..layers.len() {
        let (below, from_here) = layers.split_at_mut(n);
        let Some(layer) = from_here.first_mut() else { continue };
        let mut made: Vec<String> = Vec::new();
        for mark in layer.iter().filter(|l| l.contains(OPAQUE)) {
            let dir = &mark[..mark.find(OPAQUE).expect("filtered for it")];
            let names = below.iter().flatten().filter_map(|l| child(l, dir));
            let hidden = names.filter(|name| !layer.iter().any(|l| child(l, dir) == Some(name)));
            made.extend(hidden.map(|name| whiteout(dir, name)));
        }
        let unchanged = |l: &String| l.contains(DIRECTORY) && last_below(below, l) == Some(l);
        layer.retain(|l| !l.contains(OPAQUE) && !unchanged(l));
        made.dedup();
        layer.extend(made);
        layer.sort();
    }
    layers
}

/// Returns the line that the layers below have for the path of a line.
fn last_below<'a>(below: &'a [Vec<String>], line: &str) -> Option<&'a String> {
    let path = &line[..line.find(DIRECTORY)? + 1];
    below.iter().rev().find_map(|layer| layer.iter().find(|l| l.starts_with(path)))
}

/// Returns the last component of a line's path, if its directory is `dir`.
fn child<'a>(line: &'a str, dir: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(dir)?.strip_prefix('/')?;
    let name = &rest[..rest.find(' ')?];
    (!name.contains('/')).then_some(name)
}

/// Returns the line of a whiteout; its owner, mode and content mean nothing.
fn whiteout(dir: &str, name: &str) -> String {
    let slash = if dir.is_empty() { "" } else { "/" };
    format!("{dir}{slash}.wh.{name} whiteout")
}

/// Returns what an archive holds, a sorted line an entry.
pub(crate) fn tree(path: &Path) -> Vec<String> {
    lines(&read(path))
}

/// Returns the digest of what lines say.
pub(crate) fn digest(lines: &[String]) -> String {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// Returns the regular files of an archive, and under a symlink's name what it points to.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    for entry in Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").to_string_lossy().into_owned();
        match entry.link_name().expect("a target") {
            Some(target) => links.push((name, target.to_string_lossy().into_owned())),
            None => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("read an entry");
                files.insert(name, content);
            }
        }
    }
    for (name, target) in links {
        let target = target.trim_start_matches("../");
        let content = files.get(target).unwrap_or_else(|| panic!("{name} points to nothing"));
        files.insert(name, content.clone());
    }
    files
}

fn lines(archive: &[u8]) -> Vec<String> {
    let mut archive = Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    let mut lines: Vec<_> = entries.map(|e| line(&mut e.expect("an entry"))).collect();
    lines.sort();
    lines
}

fn line(entry: &mut Entry<'_, impl Read>) -> String {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
    let target = entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned());
    if let Some((dir, name)) = path.rsplit_once('/').or(Some(("", &path)))
        && let Some(hidden) = name.strip_prefix(".wh.")
        && hidden != ".wh..opq"
    {
        return whiteout(dir, hidden);
    }
    let header = entry.header();
    let (mode, uid, gid) = (header.mode(), header.uid(), header.gid());
    let kind = header.entry_type();
    let mut text = format!("{path} {kind:?}");
    if kind != EntryType::Symlink && kind != EntryType::Link {
        text.push_str(&format!(" {:o}", mode.expect("a mode") & 0o7777));
    }
    text.push_str(&format!(" {}:{}", uid.expect("a uid"), gid.expect("a gid")));
    if let Some(target) = target {
        text.push_str(&format!(" -> {target}"));
    }
    let attributes = entry.pax_extensions().expect("extensions").into_iter().flatten();
    let mut attributes: Vec<_> = attributes
        .map(|e| e.expect("an extension"))
        // The kernel's own marks get into archives of a user's overlay.
        .filter(|e| !e.key_bytes().starts_with(b"SCHILY.xattr.user.overlay."))
        .filter(|e| e.key_bytes().starts_with(b"SCHILY.xattr."))
        .map(|e| format!(" {}={:?}", e.key().expect("a name"), e.value_bytes()))
        .collect();
    attributes.sort();
    text.extend(attributes);
    if kind.is_file() {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("read an entry");
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        text.push_str(&format!(" {} bytes {:x}", content.len(), hasher.finish()));
    }
    text
}
