//! What a descriptor is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
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

/// Refusals are made of these words: "descriptor 3 is a socket, not a pipe".
#[test]
fn kinds_and_access_modes_are_told_in_words() {
    let said = |fd: &dyn std::os::fd::AsFd| Kind::of(fd.as_fd()).unwrap().to_string();
    assert_eq!(said(&std::io::pipe().unwrap().0), "a pipe");
    assert_eq!(
        said(&File::open("/dev/null").unwrap()),
        "a character device"
    );
    let event = nix::sys::eventfd::EventFd::new().unwrap();
    assert_eq!(said(&event), "not a file of any usual kind");
    let name = crate::mq::QueueName::new();
    let queue = name.create(aqueduct::mq::Driver::Pool, 1, 8);
    assert_eq!(said(&queue), "a message queue");
    let path_only = |path: &std::path::Path| {
        File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .unwrap()
    };
    let devices = std::fs::read_dir("/dev").unwrap().flatten();
    let is_block = |it: &std::fs::DirEntry| it.file_type().is_ok_and(|it| it.is_block_device());
    match devices.into_iter().find(is_block) {
        // Not opened for reading: whoever runs this may not be allowed to.
        Some(device) => assert_eq!(said(&path_only(&device.path())), "a block device"),
        None => println!("SKIPPED in part: there is no block device here"),
    }

    let null = std::path::Path::new("/dev/null");
    let both = File::options().read(true).write(true).open(null).unwrap();
    for (fd, words) in [
        (File::open(null).unwrap(), "reading"),
        (File::options().write(true).open(null).unwrap(), "writing"),
        (both, "reading and writing"),
        (path_only(null), "neither reading nor writing"),
    ] {
        assert_eq!(Access::of(fd).unwrap().to_string(), words);
    }
}
