//! Networks: of its own, the host's, and by way of pasta.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::fixture::Host;
use crate::for_each_user;

/// Whether pasta can work here for this user; else it must be said why.
fn has_pasta(host: &Host) -> bool {
    let can_open = matches!(host.who(), crate::fixture::Who::Root)
        || std::fs::metadata("/dev/net/tun")
            .is_ok_and(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 6 == 6);
    if !can_open {
        let said = host.fails(125, ["--net", "pasta", "--", "true"]);
        assert!(said.contains("/dev/net/tun"), "{said}");
    }
    can_open
}

for_each_user! {
    names_are_the_container_s_own: |host| {
        let out = host.ok(["--dns", "192.0.2.7", "--add-host", "box:192.0.2.8", "--", "sh", "-c",
                           "grep nameserver /etc/resolv.conf; getent hosts box"]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "nameserver 192.0.2.7", "{out}");
        assert!(lines.len() == 2 && lines[1].starts_with("192.0.2.8"), "{out}");
        let out = host.ok(["--net", "loopback", "--", "sh", "-c", "tail -n +3 /proc/net/dev | wc -l"]);
        assert_eq!(out, "1\n");
        let said = host.fails(125, ["--net", "host", "-p", "80:80", "--", "true"]);
        assert!(said.contains("pasta"), "{said}");
    };

    a_published_port_leads_inside: |host| {
        if !has_pasta(host) {
            return;
        }
        // A port that is free now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let publish = format!("127.0.0.1:{port}:80");
        let serve = "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 80, \
                     Listen => 5, ReuseAddr => 1) or die; print \"ready\\n\"; $| = 1; print \"\"; \
                     while ($c = $s->accept) { print $c \"from inside\\n\"; close $c }'";
        host.up("web", &["-p", &publish], serve);
        let ask = || {
            let mut text = String::new();
            let mut to = TcpStream::connect(("127.0.0.1", port)).ok()?;
            to.write_all(b"x").ok()?;
            to.read_to_string(&mut text).ok()?;
            Some(text)
        };
        host.until(|| ask().is_some_and(|t| t == "from inside\n"));
        assert!(host.does("ps", ["--format", "{{.Ports}}"]).contains(&format!("{port}->80/tcp")));
        host.does("rm", ["-f", "web"]);
    };
}

#[test]
fn without_pasta_its_package_is_named() {
    support::require!("network::without_pasta", support::privilege::root());
    let host = Host::root().expect("root");
    let mut command = host.command();
    command.env("PATH", "/nowhere").args(["--net", "pasta", "--", "true"]);
    let out = support::process::run(&mut command);
    assert_eq!(out.status.code(), Some(125));
    let said = crate::fixture::text(&out.stderr);
    assert!(said.contains("passt"), "{said}");
}
