//! `unionctl export`: archives of both dialects, files that appear complete or not at all, and streams.

use std::io::Read;
use std::process::Stdio;

use super::*;

/// Returns type, path and target of the entries of an archive.
fn entries(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let read = archive.entries().expect("an archive").map(|entry| {
        let entry = entry.expect("an entry");
        let link = entry.link_name_bytes().map(|l| format!(" -> {}", String::from_utf8_lossy(&l)));
        let kind = entry.header().entry_type();
        format!(
            "{kind:?} {}{}",
            String::from_utf8_lossy(&entry.path_bytes()),
            link.unwrap_or_default()
        )
    });
    read.collect()
}

fn export(dir: &Path, words: &str) -> Vec<u8> {
    let out = run(command(dir).arg("export").args(words.split(' ')));
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

#[test]
fn both_dialects_say_what_is_gone_in_their_way() {
    support::require!("both_dialects_say_what_is_gone_in_their_way", ours().usable());
    let u = changed(
        "f gone/x \"x\"\nf again/old \"o\"\nf d/f \"f\"\nf d/g \"g\"\nf l \"l\"",
        "rm -r gone; rm -r again; mkdir again; touch again/new; rm d/f; mkfifo d/p; ln l l2; ln -s l s",
    );
    let both = "Directory ./\nDirectory again/\n{opaque}Regular again/new\nDirectory d/\n{f}Fifo d/p\n{gone}Regular l\nLink l2 -> l\nSymlink s -> l";
    let filled = |opaque: &str, f: &str, gone: &str| {
        both.replace("{opaque}", opaque).replace("{f}", f).replace("{gone}", gone)
    };
    let oci = entries(&export(home(&u), "--upper upper --lower lower0"));
    let dots = filled("Regular again/.wh..wh..opq\n", "Regular d/.wh.f\n", "Regular .wh.gone\n");
    assert_eq!(oci.join("\n"), dots);
    let overlay = entries(&export(home(&u), "--upper upper --lower lower0 --whiteouts overlay"));
    assert_eq!(overlay.join("\n"), filled("", "Char d/f\n", "Char gone\n"));
    let without =
        entries(&export(home(&u), "--upper upper --lower lower0 --exclude again --exclude /d/p"));
    assert_eq!(
        without.join("\n"),
        "Directory ./\nDirectory d/\nRegular d/.wh.f\nRegular .wh.gone\nRegular l\nLink l2 -> l\nSymlink s -> l"
    );
}

#[test]
fn a_file_has_the_same_bytes_as_standard_output() {
    let l = layers("echo x >upper/new; ln -s target link; echo old >target; mkfifo pipe");
    let bytes = export(l.path(), "--upper upper");
    let written = |at: &str| std::fs::read(l.path().join(at)).expect("read the archive");
    assert_eq!(ctl(l.path(), "export --upper upper -o new.tar").well(), "");
    assert!(written("new.tar") == bytes, "a new file");
    // Through a link, as with any redirection; and to what is no file, as it is.
    assert_eq!(ctl(l.path(), "export --upper upper --output link").well(), "");
    assert!(written("target") == bytes && l.path().join("link").is_symlink());
    assert_eq!(ctl(l.path(), "export --upper upper -o /dev/null").well(), "");
    shell(
        l.path(),
        &format!(
            "cat pipe >piped & {} export --upper upper -o pipe; wait; test -p pipe; test -c /dev/null",
            env!("CARGO_BIN_EXE_unionctl-under-test")
        ),
    );
    assert!(written("piped") == bytes, "a pipe");
    assert_eq!(crate::files::list(l.path()).len(), 8, "no part is left");
}

#[test]
fn a_killed_export_leaves_the_old_file() {
    // The limit kills in the middle of writing; core files would be left otherwise.
    let l = layers("echo old >out.tar; head -c 3000000 /dev/urandom >upper/large");
    let call = format!(
        "ulimit -c 0; ulimit -f 1000; {} export --upper upper -o out.tar",
        env!("CARGO_BIN_EXE_unionctl-under-test")
    );
    let out = run(Command::new("bash").args(["-c", &call]).current_dir(l.path()));
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&out.status),
        Some(libc::SIGXFSZ),
        "{out:?}"
    );
    assert_eq!(crate::files::get(&l.path().join("out.tar")), "old\n");
    assert_eq!(crate::files::list(l.path()), ["lower", "out.tar", "upper", "work"]);
}

#[test]
fn an_archive_is_streamed_and_not_held() {
    let l = layers("for n in 1 2 3; do head -c 60000000 /dev/zero >upper/$n; done");
    let mut child = command(l.path())
        .args(["export", "--upper", "upper"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start it");
    let mut pipe = child.stdout.take().expect("its output");
    let mut part = vec![0; 150_000_000];
    pipe.read_exact(&mut part).expect("read most of it");
    // It waits for us with 30 MB to go, so it is there to be looked at.
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
    let held = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a figure");
    let kib: u64 = held.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 40_000, "it holds {kib} KiB");
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).expect("read the rest");
    assert!(child.wait().expect("wait for it").success());
    assert!(part.len() + rest.len() > 180_000_000);
}

#[test]
fn what_archives_cannot_have_is_said() {
    let l = layers(
        "mkfifo upper/pipe; mknod upper/null c 1 3; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"upper/s\")'",
    );
    let out = run(command(l.path()).args(["export", "--upper", "upper"]));
    assert!(out.status.success());
    assert_eq!(entries(&out.stdout), ["Directory ./", "Char null", "Fifo pipe"]);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(err, "unionctl: warning: 1 sockets were left out: archives can't have them\n");
}
