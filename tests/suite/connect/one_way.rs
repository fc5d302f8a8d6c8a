//! Asking a mechanism for what it cannot do.

use aqueduct::OpenErrorKind;
use aqueduct::endpoint::Direction;

use super::dir;
use crate::conformance::links::endpoint;
use crate::mq::QueueName;

/// Nothing is created.
#[tokio::test]
async fn a_one_way_endpoint_refuses_connect_and_bind() {
    let dir = dir();
    let path = dir.path().join("fifo");
    let name = QueueName::new();
    let one_way = [
        endpoint(format!("fifo:{}", path.display())),
        endpoint(format!("mq:{}", name.0)),
    ];
    for address in one_way {
        assert_eq!(address.capabilities().direction, Direction::OneWay);
        let connected = address.connect().await.expect_err("it is one-way");
        let bound = address.bind().await.expect_err("it is one-way");
        for (error, action) in [(connected, "connect to"), (bound, "bind")] {
            assert_eq!(error.kind(), &OpenErrorKind::Unsupported);
            assert_eq!(error.object(), address.to_string());
            let said = error.to_string();
            let wanted = format!("cannot {action} {address}: its direction is one-way; use");
            assert!(said.starts_with(&wanted), "{said}");
            let io = std::io::Error::from(error);
            assert_eq!(io.kind(), std::io::ErrorKind::Unsupported);
        }
    }
    assert!(!path.exists(), "nothing is made");
    let error = aqueduct::mq::OpenOptions::new()
        .open(&name.0)
        .expect_err("nothing is made");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}
