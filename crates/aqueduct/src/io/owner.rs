//! The owner of a file or queue, as far as this user namespace can tell.

use std::fs;

/// The user ID that the kernel shows for every user that has none in this user namespace:
/// `DEFAULT_OVERFLOWUID` (`user_namespaces(7)`).
const OVERFLOW: u32 = 65_534;

/// Whether this ID stands for all users outside this user namespace, not for one inside it.
pub(crate) fn is_outside(uid: u32) -> bool {
    let map = || fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    uid == OVERFLOW && !is_mapped(uid, &map())
}

/// Whether a line of a `uid_map` has this ID inside the namespace.
fn is_mapped(uid: u32, map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        let (Some(Ok(first)), Some(Ok(count))) = (first, count) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&uid.into())
    })
}

/// Describes the owner of an object that this process, running as user `euid`, does not own.
pub(crate) fn said(owner: u32, euid: u32) -> String {
    match is_outside(owner) {
        true => "it belongs to a user outside this user namespace".to_owned(),
        false => format!("it belongs to user {owner}, and this process runs as user {euid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_tells_which_users_a_namespace_has() {
        assert!(is_mapped(65_534, "         0          0 4294967295\n"));
        assert!(is_mapped(65_534, "0 1000 1\n1 100000 65536\n"));
        assert!(!is_mapped(65_534, "         0       1000          1\n"));
        assert!(!is_mapped(65_534, "0 100000 65534\n"));
        assert!(!is_mapped(65_534, ""));
    }
}
