//! `aqueduct list` of sockets whose names are not what they seem.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::Stdio;

use serde_json::Value;

use super::{find, holder, list};
use crate::support::{Dir, aqueduct, expect, run, start, until};

#[test]
fn abstract_names_with_zero_bytes_are_listed_as_they_connect() {
    // Some programs give bind(2) all of `sun_path`, and so pad the name with zero bytes.
    let name = format!("aqueduct-cli-padded-{}@\0\0\0", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let padded = UnixListener::bind_addr(&address).unwrap();
    let printed = format!("unix:@{}", name.replace('\0', "%00"));
    let things = list(&[]);
    assert_eq!(find(&things, &printed)["connections"], 0);
    expect(run(&mut aqueduct(&["send", &printed, "hi"])), 0);
    let mut text = String::new();
    padded
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "hi\n");
    drop(padded);
    // The other way round: what is bound by that address has that name.
    let recv = start(&mut aqueduct(&["recv", &printed, "-n", "1"]));
    until("it is listed", || {
        list(&[]).iter().any(|it| it["address"] == printed)
    });
    let mut client = UnixStream::connect_addr(&address).unwrap();
    client.write_all(b"there\n").unwrap();
    assert_eq!(expect(recv.finish(), 0).0, b"there\n");
}

#[test]
fn abstract_sockets_of_one_name_and_two_types_are_listed_both() {
    let name = format!("aqueduct-cli-twice-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _stream = UnixListener::bind_addr(&address).unwrap();
    let packets = start(&mut aqueduct(&["serve", &format!("unixpacket:@{name}")]));
    packets.told("serving ");
    let things = list(&[]);
    let ours = holder(find(&things, &format!("unix:@{name}")), std::process::id());
    assert_ne!(ours["command"], "aqueduct");
    let theirs = holder(find(&things, &format!("unixpacket:@{name}")), packets.pid());
    assert_eq!(theirs["command"], "aqueduct");
}

#[test]
fn a_renamed_socket_is_listed_under_its_new_name() {
    let dir = Dir::new();
    // Deeper than is searched: it is found by the name that the kernel has.
    let deep = dir.path("deep");
    std::fs::create_dir(&deep).unwrap();
    for name in [deep.join("log"), dir.path("near")] {
        let made = name.with_extension("tmp");
        let _bound = UnixListener::bind(&made).unwrap();
        std::fs::rename(&made, &name).unwrap();
        // What has the old name now is somebody else's.
        drop(UnixListener::bind(&made).unwrap());
        let address = format!("unix:{}", name.display());
        for things in [list(&[]), list(&[name.parent().unwrap().to_str().unwrap()])] {
            let thing = find(&things, &address);
            assert_eq!(thing["state"], "in use");
            assert_eq!(thing["connections"], 0);
            holder(thing, std::process::id());
            let made = format!("unix:{}", made.display());
            if let Some(dead) = things.iter().find(|it| it["address"] == made) {
                assert_eq!(dead["state"], "orphaned");
                assert_eq!(dead["open_by"], Value::Array(vec![]));
            }
        }
    }
}

#[test]
fn a_socket_bound_by_a_relative_path_is_listed_with_its_server() {
    let dir = Dir::new();
    let deep = dir.path("deep");
    std::fs::create_dir(&deep).unwrap();
    let mut serve = aqueduct(&["serve", "unix:relative"]);
    let serve = start(serve.current_dir(&deep).stdin(Stdio::null()));
    serve.told("serving ");
    let address = format!("unix:{}", deep.join("relative").display());
    for things in [list(&[]), list(&[deep.to_str().unwrap()])] {
        let thing = find(&things, &address);
        assert_eq!(thing["connections"], 0);
        holder(thing, serve.pid());
    }
}
