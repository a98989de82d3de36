//! Real programs in containers over the host's root.

use crate::for_each_user;

for_each_user! {
    a_repository_is_cloned_and_committed_to: |host| {
        if support::process::program("git").is_none() {
            return support::privilege::skip("programs::git", &missing("git"));
        }
        let script = "mkdir /tmp/r && cd /tmp/r && git init -q . && echo 1 > a && git add a && \
            git -c user.name=a -c user.email=a@b commit -qm one && git clone -q /tmp/r /tmp/c && \
            cd /tmp/c && git log --format=%s && git fsck --strict && git status --short";
        assert_eq!(host.sh(script), "one\n");
    };

    a_database_in_wal_mode_is_sound: |host| {
        if support::process::program("sqlite3").is_none() {
            return support::privilege::skip("programs::sqlite", &missing("sqlite3"));
        }
        let script = "cd /var/tmp && { echo 'pragma journal_mode=wal; create table t(x);'; \
            for i in $(seq 200); do echo \"insert into t values($i);\"; done; } | sqlite3 db; \
            sqlite3 db 'select count(*), sum(x) from t; pragma integrity_check;'";
        assert_eq!(host.sh(script), "wal\n200|20100\nok\n");
    };

    a_program_is_compiled_and_run: |host| {
        if support::process::program("cc").is_none() {
            return support::privilege::skip("programs::cc", &missing("build-essential"));
        }
        let script = "cd /tmp && printf '#include <stdio.h>\\nint main(){puts(\"built\");}' > a.c && \
            cc -o a a.c && ./a";
        assert_eq!(host.sh(script), "built\n");
    };

    a_package_is_built_and_installed: |host| {
        if matches!(host.who(), crate::fixture::Who::Nameless)
            || support::process::program("dpkg-deb").is_none()
        {
            // dpkg gives files to other users, who don't exist for that user.
            return;
        }
        let script = "mkdir -p /tmp/p/DEBIAN /tmp/p/opt && echo hi > /tmp/p/opt/hi && \
            printf 'Package: hi\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\n\
            Description: x\\n' > /tmp/p/DEBIAN/control && \
            dpkg-deb --root-owner-group -b /tmp/p /tmp/hi.deb >/dev/null && \
            dpkg -i /tmp/hi.deb >/dev/null 2>&1 && cat /opt/hi && dpkg -s hi | grep ^Status";
        assert_eq!(host.sh(script), "hi\nStatus: install ok installed\n");
        assert!(!std::path::Path::new("/opt/hi").exists());
    };
}

fn missing(program: &str) -> support::privilege::Missing {
    support::privilege::Missing::Setup(format!("{program} is not installed"))
}
