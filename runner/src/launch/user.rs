//! Who the program runs as: names looked up in the container's own /etc/passwd and /etc/group.

use std::ffi::OsString;
use std::fs;

use crate::error::{Error, Result};
use crate::spec::{Principal, User};

/// A user with everything that a process is given of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// User.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// Further groups.
    pub(super) groups: Vec<u32>,
    /// Home directory.
    pub(super) home: OsString,
}

/// Looks a user up.
///
/// # Preconditions
/// The caller's root is the container's.
pub(super) fn find(user: &User) -> Result<Account> {
    // A root without these files has users by number only.
    let read = |path: &str| fs::read(path).unwrap_or_default();
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    let (passwd, group) = (String::from_utf8_lossy(&passwd), String::from_utf8_lossy(&group));
    resolve(user, &passwd, &group)
}

fn resolve(user: &User, passwd: &str, group: &str) -> Result<Account> {
    // name:password:uid:gid:comment:home:shell
    let row = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| {
        match (&user.user, f.as_slice()) {
            (Principal::Name(name), [n, ..]) => n == name,
            (Principal::Id(id), [_, _, uid, ..]) => uid.parse() == Ok(*id),
            _ => false,
        }
    });
    let number = |n: usize| row.as_ref().and_then(|f| f.get(n)).and_then(|t| t.parse().ok());
    let uid = match (&user.user, number(2)) {
        (Principal::Id(id), _) => *id,
        (Principal::Name(_), Some(id)) => id,
        (Principal::Name(name), None) => {
            return Err(Error::new("--user", format!("the container has no user {name}"))
                .hint("use a name of its /etc/passwd, or a number"));
        }
    };
    let name = row.as_ref().and_then(|f| f.first().copied());
    let own_gid = number(3).unwrap_or(0);
    let (gid, groups) = match &user.group {
        None => (own_gid, name.map(|n| member_of(group, n)).unwrap_or_default()),
        Some(Principal::Id(id)) => (*id, user.more.clone()),
        Some(Principal::Name(g)) => (group_id(group, g)?, user.more.clone()),
    };
    let home = row.as_ref().and_then(|f| f.get(5)).filter(|h| !h.is_empty());
    Ok(Account { uid, gid, groups, home: OsString::from(home.copied().unwrap_or("/")) })
}

fn group_id(group: &str, name: &str) -> Result<u32> {
    // name:password:gid:members
    let found = group.lines().find_map(|l| {
        let f: Vec<&str> = l.split(':').collect();
        (f.first() == Some(&name)).then(|| f.get(2)?.parse().ok())?
    });
    found.ok_or_else(|| {
        Error::new("--user", format!("the container has no group {name}"))
            .hint("use a name of its /etc/group, or a number")
    })
}

fn member_of(group: &str, name: &str) -> Vec<u32> {
    let gid = |l: &str| {
        let f: Vec<&str> = l.split(':').collect();
        let is_member = f.get(3)?.split(',').any(|m| m == name);
        if is_member { f.get(2)?.parse().ok() } else { None }
    };
    group.lines().filter_map(gid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:web,other\n";

    fn account(user: Principal, group: Option<Principal>) -> Result<Account> {
        resolve(&User { user, group, more: Vec::new() }, PASSWD, GROUP)
    }

    #[test]
    fn a_name_has_its_groups_and_home() {
        let a = account(Principal::Name("web".into()), None).unwrap();
        assert_eq!((a.uid, a.gid, a.groups, a.home), (33, 34, vec![40], "/var/www".into()));
    }

    #[test]
    fn a_number_needs_no_entry() {
        let a = account(Principal::Id(999), Some(Principal::Id(7))).unwrap();
        assert_eq!((a.uid, a.gid, a.groups, a.home), (999, 7, vec![], "/".into()));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(account(Principal::Name("nobody".into()), None).is_err());
        assert!(account(Principal::Id(0), Some(Principal::Name("nobody".into()))).is_err());
    }
}
