//! Images to files: archives as `docker save` and `podman save` write them, and OCI layouts.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use oci_spec::image::MediaType;
use serde_json::json;

use crate::error::{Context, Error, Result};
use crate::image::config::CONFIG_MAX;
use crate::image::digest::Digest;
use crate::image::oci;
use crate::image::package::{Package, Wanted, plain};
use crate::image::store::sync_dir;
use crate::image::work::Work;

/// How images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// One file as `docker save` writes it, layers plain
    DockerArchive,
    /// One file with an OCI layout
    OciArchive,
    /// A directory with an OCI layout
    OciDir,
}

/// An image that is to be written, with the names that it gets.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// The image.
    pub(crate) id: Digest,
    /// Names.
    pub(crate) names: Vec<String>,
}

/// What the files of an archive go to.
trait Files {
    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    fn large(&mut self, name: &str, from: &mut dyn Read, size: u64) -> Result<()>;
}

/// Writes images to a file or directory, which has its name only when it is complete.
pub(crate) fn save(
    work: &Work,
    chosen: &[Chosen],
    form: Form,
    wanted: Wanted,
    to: &Path,
) -> Result<()> {
    if form == Form::OciDir {
        return dir(work, chosen, wanted, to);
    }
    let part = beside(to);
    let write = || -> Result<()> {
        let file = File::create_new(&part).step_at("create", &part)?;
        let file = archive(work, chosen, form, wanted, BufWriter::with_capacity(1 << 20, file))?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|f| f.sync_all()).step_at("write", to)?;
        fs::rename(&part, to).step_at("write", to)
    };
    let done = write();
    if done.is_err() && part.exists() {
        crate::error::best_effort("remove an incomplete file", fs::remove_file(&part));
    }
    done
}

fn beside(to: &Path) -> std::path::PathBuf {
    let mut part = to.as_os_str().to_os_string();
    part.push(format!(".{}.part", std::process::id()));
    part.into()
}

/// Writes images as one archive.
pub(crate) fn archive<W: Write>(
    work: &Work,
    chosen: &[Chosen],
    form: Form,
    wanted: Wanted,
    to: W,
) -> Result<W> {
    let mut tar = Tar(tar::Builder::new(to));
    match form {
        Form::DockerArchive => docker(work, chosen, &mut tar)?,
        Form::OciArchive | Form::OciDir => layout(work, chosen, wanted, &mut tar)?,
    }
    let mut out = tar.0.into_inner().step("write archive")?;
    out.flush().step("write archive")?;
    Ok(out)
}

fn docker(work: &Work, chosen: &[Chosen], files: &mut impl Files) -> Result<()> {
    let index = work.store.index()?;
    let mut written = BTreeSet::new();
    let mut list = Vec::new();
    for image in chosen {
        let record = index.image(&image.id)?;
        for diff_id in &record.layers {
            if !written.insert(diff_id.clone()) {
                continue;
            }
            let layer = index.layers.get(diff_id);
            let layer =
                layer.ok_or_else(|| Error::new("image", format!("its layer {diff_id} is gone")))?;
            let bar = work.progress.bar(diff_id.short(), Some(layer.archive_size));
            let mut from = bar.wrap(plain(&work.store, layer)?);
            files.large(&format!("{}.tar", diff_id.hex()), &mut from, layer.archive_size)?;
            bar.done("written");
        }
        let config = format!("{}.json", image.id.hex());
        if written.insert(image.id.clone()) {
            files.small(&config, &work.store.read_blob(&image.id, CONFIG_MAX)?)?;
        }
        let layers: Vec<String> =
            record.layers.iter().map(|l| format!("{}.tar", l.hex())).collect();
        list.push(json!({"Config": config, "RepoTags": image.names, "Layers": layers}));
    }
    files.small("manifest.json", &serde_json::to_vec(&list).step("write manifest.json")?)
}

fn layout(work: &Work, chosen: &[Chosen], wanted: Wanted, files: &mut impl Files) -> Result<()> {
    let mut written = BTreeSet::new();
    let mut entries = Vec::new();
    let name = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    files.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for image in chosen {
        let package = Package::new(work, &image.id, wanted)?;
        for layer in &package.layers {
            if written.insert(layer.digest.clone()) {
                let file = File::open(&layer.file).step_at("open layer", &layer.file)?;
                let bar = work.progress.bar(layer.digest.short(), Some(layer.size));
                files.large(&name(&layer.digest), &mut bar.wrap(file), layer.size)?;
                bar.done("written");
            }
        }
        let digest = package.digest();
        for (digest, bytes) in
            [(&package.config.0, &package.config.1), (&digest, &package.manifest)]
        {
            if written.insert(digest.clone()) {
                files.small(&name(digest), bytes)?;
            }
        }
        let media = MediaType::from(package.media.as_str());
        let descriptor = oci::descriptor(media, &digest, package.manifest.len() as u64)?;
        if image.names.is_empty() {
            entries.push((descriptor, None));
        } else {
            entries.extend(image.names.iter().map(|n| (descriptor.clone(), Some(n.clone()))));
        }
    }
    files.small("index.json", &oci::layout_index(&entries)?)
}

/// An archive that is written.
struct Tar<W: Write>(tar::Builder<W>);

impl<W: Write> Files for Tar<W> {
    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.large(name, &mut &*bytes, bytes.len() as u64)
    }

    fn large(&mut self, name: &str, from: &mut dyn Read, size: u64) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut counted = from.take(size);
        self.0.append_data(&mut header, name, &mut counted).step("write archive")?;
        // A blob that lost its end must not make an archive that looks whole.
        if counted.limit() > 0 {
            return Err(Error::new(
                "write archive",
                format!("{name} is shorter than it should be"),
            ));
        }
        Ok(())
    }
}

/// A directory that is written.
struct Dir<'a>(&'a Path);

impl Files for Dir<'_> {
    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.large(name, &mut &*bytes, bytes.len() as u64)
    }

    fn large(&mut self, name: &str, from: &mut dyn Read, size: u64) -> Result<()> {
        let path = self.0.join(name);
        let part = beside(&path);
        let mut write = || {
            let mut file = File::create(&part)?;
            let n = io::copy(&mut from.take(size), &mut file)?;
            if n < size {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it is shorter than it should be",
                ));
            }
            file.sync_all()?;
            fs::rename(&part, &path)
        };
        write().step_at("write", &path)
    }
}

fn dir(work: &Work, chosen: &[Chosen], wanted: Wanted, to: &Path) -> Result<()> {
    let blobs = to.join("blobs/sha256");
    let is_taken = to.join("index.json").exists() && !to.join("oci-layout").exists();
    if is_taken || to.is_file() {
        return Err(Error::new("save", "it is there, and no OCI layout")
            .at(to)
            .hint("give another directory"));
    }
    fs::create_dir_all(&blobs).step_at("create directory", &blobs)?;
    // index.json is written last: what it doesn't name isn't there for anybody.
    layout(work, chosen, wanted, &mut Dir(to))?;
    sync_dir(&blobs).and_then(|()| sync_dir(to)).step_at("write", to)
}
