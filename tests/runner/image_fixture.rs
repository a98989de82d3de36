//! Images of a test: a state directory of its own, and archives made byte by byte.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use support::process::run;

use crate::fixture::{Host, text};

/// Images on a host.
pub(crate) struct Images<'a> {
    host: &'a Host,
    state: PathBuf,
}

impl<'a> Images<'a> {
    /// Begins without images.
    pub(crate) fn new(host: &'a Host) -> Images<'a> {
        Images { host, state: host.home_dir("images-state") }
    }

    /// Returns a second set of images of the same user.
    pub(crate) fn other(&self) -> Images<'a> {
        Images { host: self.host, state: self.host.home_dir("images-state-2") }
    }

    /// Returns a command with the state directory, without further arguments.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = self.host.bare();
        command.arg("--state").arg(&self.state);
        command
    }

    /// Runs a verb.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        run(self.command().args(args))
    }

    /// Runs a verb, which must succeed, and returns what it wrote.
    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{}: {}", out.status, text(&out.stderr));
        text(&out.stdout).trim_end().to_owned()
    }

    /// Runs a verb, which must fail with code 125 and one line, and returns the line.
    #[track_caller]
    pub(crate) fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let out = self.run(args);
        let said = text(&out.stderr).trim_end().to_owned();
        assert_eq!(out.status.code(), Some(125), "{said}");
        assert!(said.starts_with("runner: ") && !said.contains('\n'), "not one line: {said}");
        said
    }

    /// Returns the id of an image.
    #[track_caller]
    pub(crate) fn id(&self, name: &str) -> String {
        self.ok(["image", "inspect", "--format", "{{.Id}}", name])
    }

    /// Returns the layers of an image as the runner takes them, the topmost first.
    #[track_caller]
    pub(crate) fn layers(&self, name: &str) -> String {
        self.ok(["image", "inspect", "--format", "{{.GraphDriver.Data.LowerDir}}", name])
    }

    /// Returns the files of the state directory, but for locks and the index.
    pub(crate) fn content(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        let dirs = ["blobs/sha256", "layers", "staging"];
        for dir in dirs.map(|d| self.state.join("images").join(d)) {
            all.extend(std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()));
        }
        all
    }

    /// Writes a file that the user can read.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.host.dir().join(name);
        std::fs::write(&path, bytes).expect("write an archive");
        path
    }

    /// Returns a directory of the user.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.host.home_dir(name)
    }
}

/// An archive on its way.
#[derive(Clone, Default)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

impl Archive {
    /// Adds an entry of a type (`0` file, `1` hard link, `2` symlink, `3` character device, `5`
    /// directory, ...).
    pub(crate) fn add(mut self, kind: u8, name: &str, link: &str, data: &[u8]) -> Archive {
        self.header(kind, name, link, data.len() as u64, 0o755);
        self.data(data);
        self
    }

    /// Adds a file with these permission bits.
    pub(crate) fn mode(mut self, name: &str, mode: u32, data: &[u8]) -> Archive {
        self.header(b'0', name, "", data.len() as u64, mode);
        self.data(data);
        self
    }

    /// Adds a regular file.
    pub(crate) fn file(self, name: &str, data: &str) -> Archive {
        self.add(b'0', name, "", data.as_bytes())
    }

    /// Adds a directory.
    pub(crate) fn dir(self, name: &str) -> Archive {
        self.add(b'5', name, "", b"")
    }

    /// Adds an extended header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Archive {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            writeln!(data, "{length} {key}={value}").expect("write to memory");
        }
        self.add(b'x', "pax", "", &data)
    }

    /// Adds only a header, that says there are `size` bytes.
    pub(crate) fn header(&mut self, kind: u8, name: &str, link: &str, size: u64, mode: u32) {
        let mut block = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"14000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        let whole = self.0.len().next_multiple_of(512);
        self.0.resize(whole, 0);
    }

    /// Returns the archive with its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Returns the digest of some bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let out = support::process::feed(&mut std::process::Command::new("sha256sum"), bytes);
    text(&out.stdout).split(' ').next().expect("a digest").to_owned()
}

/// Returns what `docker save` would write of layers, the bottom one first.
pub(crate) fn docker_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| format!("\"sha256:{}\"", sha256(l))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let files: Vec<String> = (0..layers.len()).map(|n| format!("\"{n}/layer.tar\"")).collect();
    let manifest =
        format!(r#"[{{"Config":"c.json","RepoTags":["{name}"],"Layers":[{}]}}]"#, files.join(","));
    let mut archive = Archive::default().file("manifest.json", &manifest).file("c.json", &config);
    for (n, layer) in layers.iter().enumerate() {
        // As Docker did it: a layer that an image shares is a link.
        archive = archive.add(b'0', &format!("{n}.tar"), "", layer).add(
            b'2',
            &format!("{n}/layer.tar"),
            &format!("../{n}.tar"),
            b"",
        );
    }
    archive.end()
}

/// Returns a root file system with a shell.
pub(crate) fn busybox_root() -> Archive {
    let program = std::fs::read("/bin/busybox").expect("read busybox");
    let mut archive = Archive::default();
    for dir in ["bin/", "dev/", "etc/", "proc/", "sys/", "tmp/", "d/", "gone/", "opaque/"] {
        archive = archive.dir(dir);
    }
    archive = archive.mode("bin/busybox", 0o755, &program);
    for name in ["sh", "cat", "ls", "rm", "mv", "mkdir", "test", "find", "touch", "chmod", "ln"] {
        archive = archive.add(b'2', &format!("bin/{name}"), "busybox", b"");
    }
    archive
        .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        .file("etc/kept", "kept")
        .file("etc/removed", "removed")
        .file("d/old", "old")
        .file("gone/x", "x")
        .file("opaque/below", "below")
}

/// Says what is missing where there is no static busybox.
pub(crate) fn busybox() -> Result<(), support::privilege::Missing> {
    match Path::new("/bin/busybox").is_file() {
        true => Ok(()),
        false => Err(support::privilege::Missing::Setup("busybox-static is not installed".into())),
    }
}
