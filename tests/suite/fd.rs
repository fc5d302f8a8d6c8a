//! What a descriptor is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;

use aqueduct::fd::{Access, Kind, is_nonblocking};

#[test]
fn each_kind_of_descriptor_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(Kind::of(&reader).unwrap(), Kind::Pipe);
    assert_eq!(Kind::of(&writer).unwrap(), Kind::Pipe);
    let (socket, _) = UnixDatagram::pair().unwrap();
    assert_eq!(Kind::of(socket).unwrap(), Kind::Socket);
    assert_eq!(Kind::of(tempfile::tempfile().unwrap()).unwrap(), Kind::File);
    let opened = File::open(dir.path()).unwrap();
    assert_eq!(Kind::of(opened).unwrap(), Kind::Directory);
    let null = File::open("/dev/null").unwrap();
    assert_eq!(Kind::of(null).unwrap(), Kind::CharDevice);
    let event = nix::sys::eventfd::EventFd::new().unwrap();
    assert_eq!(Kind::of(event).unwrap(), Kind::Other);
}

#[test]
fn the_access_mode_is_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = |options: &mut std::fs::OpenOptions| {
        Access::of(options.open(file.path()).unwrap()).unwrap()
    };
    assert_eq!(open(File::options().read(true)), Access::Read);
    assert_eq!(open(File::options().write(true)), Access::Write);
    assert_eq!(
        open(File::options().read(true).write(true)),
        Access::ReadWrite
    );
    let path_only = open(File::options().read(true).custom_flags(libc::O_PATH));
    assert_eq!(path_only, Access::Neither);
    assert!(!path_only.can_read() && !path_only.can_write());
}

#[test]
fn the_blocking_mode_is_found_for_every_duplicate() {
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(!is_nonblocking(&reader).unwrap());
    let options = libc::O_NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(options)
        .open(format!("/proc/self/fd/{}", reader.as_raw_fd()))
        .unwrap();
    assert!(is_nonblocking(&file).unwrap());
    assert!(is_nonblocking(file.try_clone().unwrap()).unwrap());
    assert!(!is_nonblocking(&reader).unwrap());
}

#[test]
fn a_message_queue_is_not_taken_for_a_file() {
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_close, mq_open, mq_unlink};

    let name = format!("/aqueduct-test-kind-{}", std::process::id());
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
    let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    let attributes = MqAttr::new(0, 1, 16, 0);
    let queue = mq_open(name.as_str(), flags, mode, Some(&attributes)).unwrap();
    mq_unlink(name.as_str()).unwrap();
    assert_eq!(Kind::of(&queue).unwrap(), Kind::MessageQueue);
    mq_close(queue).unwrap();
}
