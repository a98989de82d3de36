//! Users: of the host, of a range of subordinate ids, and root alone.

use crate::fixture::{Host, Who};
use crate::for_each_user;

for_each_user! {
    the_program_is_root_unless_asked_otherwise: |host| {
        assert_eq!(host.ok(["--", "id", "-u"]), "0\n");
        assert_eq!(host.ok(["--", "id", "-g"]), "0\n");
    };

    other_users_exist_where_ids_are_mapped: |host| {
        if matches!(host.who(), Who::Nameless) {
            let said = host.fails(125, ["-u", "33", "--", "true"]);
            assert!(said.contains("subuid"), "{said}");
            return;
        }
        assert_eq!(host.ok(["-u", "www-data", "--", "id", "-un"]), "www-data\n");
        assert_eq!(host.ok(["-u", "1234:5678", "--", "sh", "-c", "id -u; id -g"]), "1234\n5678\n");
        // Without uid 0 a program has no rights beyond those of its user.
        let out = host.ok(["-u", "33", "--", "grep", "CapEff", "/proc/self/status"]);
        assert!(out.trim().ends_with("0000000000000000"), "{out}");
        let out = host.sh("touch /etc/mine && chown 33:33 /etc/mine && stat -c %u:%g /etc/mine");
        assert_eq!(out, "33:33\n");
    };

    the_home_of_root_can_be_used: |host| {
        let out = host.sh("cd; pwd; touch file; mkdir -p .a-dir; ls -A | grep -cx -e file -e .a-dir");
        assert_eq!(out, "/root\n2\n");
    };

    unknown_users_are_refused: |host| {
        let said = host.fails(125, ["-u", "no-such-user", "--", "true"]);
        assert!(said.contains("no-such-user"), "{said}");
        let said = host.fails(125, ["-u", "0:no-such-group", "--", "true"]);
        assert!(said.contains("no-such-group"), "{said}");
    };
}

#[test]
fn what_only_root_may_read_stays_closed_to_users() {
    let host = match Host::user() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip("users::closed", &missing),
    };
    let out = host.run(["--", "cat", "/etc/shadow"]);
    assert!(!out.status.success());
    assert_eq!(out.stdout, b"");
}
