//! Images in and out: pull, push, load, save, import.

use std::io::{self, BufWriter, IsTerminal};
use std::path::Path;

use super::args::{
    CompressionArgs, ImportArgs, LoadArgs, PullArgs, PushArgs, RegistryArgs, SaveArgs,
};
use super::{adding, line, write_file};
use crate::error::{Error, Result};
use crate::image::{
    self, About, Chosen, Form, Reference, RegistryOptions, SIZE_MAX, Selection, Verify, Wanted,
};
use crate::store::Store;

impl RegistryArgs {
    fn options(&self) -> RegistryOptions {
        RegistryOptions {
            verify: if self.tls_verify { Verify::Certificates } else { Verify::Nothing },
            authfile: self.authfile.clone(),
            creds: self.creds.clone(),
        }
    }
}

impl CompressionArgs {
    fn wanted(&self) -> Wanted {
        Wanted { compression: self.compression_format, level: self.compression_level }
    }
}

/// An image in a file, as podman names it: `oci:DIR:TAG`, `oci-archive:FILE`, `docker-archive:FILE`.
fn in_file(text: &str) -> Option<(&Path, Option<String>)> {
    let rest =
        ["oci:", "oci-archive:", "docker-archive:"].iter().find_map(|t| text.strip_prefix(t))?;
    match rest.split_once(':') {
        Some((path, only)) => Some((Path::new(path), Some(only.to_owned()))),
        None => Some((Path::new(rest), None)),
    }
}

pub(super) fn pull(args: &PullArgs, store: &Store) -> Result<u8> {
    adding(store, args.quiet, args.bounds.max_size, |work| {
        for text in &args.images {
            if let Some((path, only)) = in_file(text) {
                for loaded in image::load(work, path, &Selection { only })? {
                    line(loaded.id.hex())?;
                }
                continue;
            }
            let reference = Reference::remote(text)?;
            let id = image::pull(work, &reference, &args.registry.options())?;
            line(id.hex())?;
        }
        Ok(0)
    })
}

pub(super) fn push(args: &PushArgs, store: &Store) -> Result<u8> {
    adding(store, args.quiet, SIZE_MAX, |work| {
        let found = work.store.index()?.find(&args.image)?;
        let to = match (&args.destination, &found.name) {
            (Some(to), _) => Reference::remote(to)?,
            (None, Some(name)) => Reference::remote(name)?,
            (None, None) => {
                return Err(Error::new(
                    "push",
                    "the image has no name here that says where it goes",
                )
                .hint("name a destination, such as HOST/PATH:TAG"));
            }
        };
        let digest =
            image::push(work, &found.id, &to, args.compression.wanted(), &args.registry.options())?;
        if let Some(file) = &args.digestfile {
            write_file(file, &digest.to_string())?;
        }
        Ok(0)
    })
}

pub(super) fn load(args: &LoadArgs, store: &Store) -> Result<u8> {
    let from = args.input.as_deref().unwrap_or(Path::new("-"));
    if args.input.is_none() && io::stdin().is_terminal() {
        return Err(Error::new(
            "load",
            "an archive is not typed: name it by --input, or send it to standard input",
        ));
    }
    adding(store, args.quiet, args.bounds.max_size, |work| {
        for loaded in image::load(work, from, &Selection::default())? {
            let names =
                if loaded.names.is_empty() { vec![loaded.id.to_string()] } else { loaded.names };
            for name in names {
                line(format_args!("Loaded image: {name}"))?;
            }
        }
        Ok(0)
    })
}

pub(super) fn save(args: &SaveArgs, store: &Store) -> Result<u8> {
    let wanted = args.compression.wanted();
    if args.format == Form::DockerArchive
        && (wanted.compression.is_some() || wanted.level.is_some())
    {
        return Err(Error::new("--compression-format", "layers of a docker-archive are plain")
            .hint("choose --format oci-archive or oci-dir"));
    }
    if args.output.is_none() && (args.format == Form::OciDir || io::stdout().is_terminal()) {
        return Err(Error::new("save", "it is not clear where to")
            .hint("name a file or directory by --output"));
    }
    adding(store, args.quiet, SIZE_MAX, |work| {
        let index = work.store.index()?;
        let mut chosen: Vec<Chosen> = Vec::new();
        for word in &args.images {
            let found = index.find(word)?;
            let name = found.name.filter(|n| !n.contains('@'));
            match chosen.iter_mut().find(|c| c.id == found.id) {
                Some(same) => same.names.extend(name),
                None => chosen.push(Chosen { id: found.id, names: name.into_iter().collect() }),
            }
        }
        match &args.output {
            Some(path) => image::save(work, &chosen, args.format, wanted, path)?,
            None => {
                let out = BufWriter::with_capacity(1 << 17, io::stdout().lock());
                image::archive(work, &chosen, args.format, wanted, out).map(drop)?;
            }
        }
        Ok(0)
    })
}

pub(super) fn import(args: &ImportArgs, store: &Store) -> Result<u8> {
    let about = About {
        changes: args.about.change.clone(),
        message: args.about.message.clone(),
        author: String::new(),
        name: args.name.as_deref().map(Reference::local).transpose()?,
    };
    adding(store, args.quiet, args.bounds.max_size, |work| {
        let id = image::import(work, &args.from, &about)?;
        line(&id)?;
        Ok(0)
    })
}
