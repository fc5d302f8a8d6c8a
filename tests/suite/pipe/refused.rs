//! Descriptors and paths that are no pipe, or the wrong end of one: typed, named, with the cure.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use aqueduct::pipe::{OpenOptions, Receiver, Sender, packet};
use aqueduct::{OpenError, OpenErrorKind};

/// Every checked way to make an end from a descriptor.
fn every_way(make: impl Fn() -> OwnedFd) -> Vec<io::Error> {
    vec![
        Receiver::from_file(make().into()).unwrap_err(),
        Receiver::from_owned_fd(make()).unwrap_err(),
        Receiver::try_from(make()).unwrap_err(),
        Receiver::from_shared_fd(make()).unwrap_err(),
        Sender::from_file(make().into()).unwrap_err(),
        Sender::from_owned_fd(make()).unwrap_err(),
        Sender::try_from(make()).unwrap_err(),
        Sender::from_shared_fd(make()).unwrap_err(),
        packet::Receiver::from_owned_fd(make()).unwrap_err(),
        packet::Sender::from_owned_fd(make()).unwrap_err(),
    ]
}

#[tokio::test]
async fn every_other_kind_of_descriptor_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    let file = || {
        File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap()
            .into()
    };
    let null = || File::open("/dev/null").unwrap().into();
    let directory = || File::open(dir.path()).unwrap().into();
    let socket = || UnixStream::pair().unwrap().0.into();
    let cases: [(&dyn Fn() -> OwnedFd, &str, &str); 4] = [
        (&file, "a regular file", "tokio::fs"),
        (&null, "a character device", "cat |"),
        (&directory, "a directory", "mkfifo"),
        (&socket, "a socket", "use it as a socket"),
    ];
    for (make, found, cure) in cases {
        for error in every_way(make) {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let inside = OpenError::of(&error).expect("it is inside");
            assert_eq!(inside.kind(), &OpenErrorKind::WrongType { found });
            assert!(inside.object().starts_with("descriptor "), "{error}");
            assert!(inside.cure().unwrap().contains(cure), "{error}");
            let said = format!("it is {found}, not a pipe or FIFO");
            assert!(error.to_string().contains(&said), "{error}");
        }
    }
}

#[tokio::test]
async fn the_wrong_end_is_refused_by_its_direction() {
    let (reader, writer) = io::pipe().unwrap();
    let number = writer.as_raw_fd();
    let error = Receiver::from_shared_fd(&writer).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot read from descriptor {number}: it is open only for writing; \
             pass the other end of the pipe"
        )
    );
    let wrong = [
        Receiver::from_owned_fd(writer.into()).unwrap_err(),
        Sender::from_owned_fd(reader.into()).unwrap_err(),
        packet::Sender::from_owned_fd(io::pipe().unwrap().0.into()).unwrap_err(),
        packet::Receiver::from_owned_fd(io::pipe().unwrap().1.into()).unwrap_err(),
    ];
    for error in wrong {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let inside = OpenError::of(&error).expect("it is inside");
        assert_eq!(inside.kind(), &OpenErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn a_path_to_anything_else_is_refused_with_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    let mut both = OpenOptions::new();
    both.read_write(true);
    for error in [
        OpenOptions::new().open_receiver(&path).unwrap_err(),
        OpenOptions::new().open_sender(&path).unwrap_err(),
        both.open_receiver(&path).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let inside = OpenError::of(&error).expect("it is inside");
        assert_eq!(inside.object(), path.to_str().unwrap());
    }
    let absent = OpenOptions::new().open_receiver(dir.path().join("absent"));
    assert_eq!(absent.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let directory = OpenOptions::new().open_sender(dir.path());
    assert_eq!(directory.unwrap_err().raw_os_error(), Some(libc::EISDIR));
}

/// epoll does not take it; unchecked, that is all there is to say.
#[tokio::test]
async fn unchecked_a_regular_file_is_eperm() {
    let file = tempfile::tempfile().unwrap();
    let error = Receiver::from_file_unchecked(file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    let error = OpenOptions::new().unchecked(true).open_receiver(path);
    assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[tokio::test]
async fn a_refused_descriptor_is_closed() {
    let (reader, writer) = io::pipe().unwrap();
    drop(Receiver::from_owned_fd(writer.into()).unwrap_err());
    let mut rx = Receiver::from_owned_fd(reader.into()).unwrap();
    let n = crate::support::deadline(tokio::io::AsyncReadExt::read(&mut rx, &mut [0; 1])).await;
    assert_eq!(n.unwrap(), 0, "no writer is left");
}
