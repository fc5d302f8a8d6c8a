//! The group of created objects: `?group=` of an address.

use std::fmt::Display;
use std::os::fd::AsFd;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Group, fchownat};

use super::open_error::{OpenError, OpenErrorKind};

/// The default mode of an object that is created for a group.
pub(crate) const GROUP_MODE: u32 = 0o660;

/// The permission bits that may be set before a created object has its group.
pub(crate) const OWNER_BITS: u32 = 0o700;

/// Finds the group of that name or number, for opening `object`.
pub(crate) fn find_group(
    action: &'static str,
    object: impl Display,
    group: &str,
) -> Result<Gid, OpenError> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid),
        Ok(None) => {
            let cause = format!("there is no group {group:?}");
            Err(
                OpenError::new(action, object, OpenErrorKind::InvalidOption, cause)
                    .with_cure("use a name that `getent group` lists, or a number"),
            )
        }
        Err(errno) => Err(OpenError::system(action, object, errno.into())),
    }
}

/// Gives the file behind `fd`, which may be open with `O_PATH`, to a group.
pub(crate) fn give_to_group(
    action: &'static str,
    object: impl Display,
    fd: impl AsFd,
    group: Gid,
) -> Result<(), OpenError> {
    fchownat(fd, "", None, Some(group), AtFlags::AT_EMPTY_PATH).map_err(|errno| {
        let cause = format!("it cannot be given to group {group}: {}", errno.desc());
        OpenError::new(action, object, OpenErrorKind::PermissionDenied, cause)
            .with_cure("use a group that this user is a member of")
            .with_source(std::io::Error::from(errno))
    })
}
